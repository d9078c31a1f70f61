"""What `--dry-run` prints: the resolved config as YAML, tasks, placement and memory."""

from __future__ import annotations

import yaml

from deploy.placement import MIB
from deploy.preflight import Plan
from repertory.config import RunConfig


def plan_text(config: RunConfig, plan: Plan) -> str:
    """Return the plan as text. All but the config is in YAML comments: it can be used as --config.

    Secrets are in no config: keys come from the environment.
    """
    fewest, most = min(plan.lanes_per_task), max(plan.lanes_per_task)
    spread = str(fewest) if fewest == most else f"{fewest} to {most}"
    lines = [
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        f"# {len(plan.tasks)} tasks, {spread} lanes each:",
        *(f"#   {task.name}" for task in plan.tasks),
    ]
    if plan.held_out:
        lines += ["# held out:", *(f"#   {name}" for name in plan.held_out)]
    lines.append(f"# {'part':16}{'count':>5}  {'MiB each':>8}  place, contents")
    for part in plan.parts:
        size = f"{part.memory / MIB:,.0f}"
        lines.append(f"# {part.name:16}{part.count:5}  {size:>8}  {part.place}: {part.contents}")
    lines.append(f"# memory, estimated: {plan.memory / MIB:,.0f} MiB")
    return "\n".join(lines) + "\n"
