"""The model card: what an exported agent is, how it was made and tested, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.export.scores import Scores
from repertory.config import (
    AtariConfig,
    HalfCheetahConfig,
    MetaworldConfig,
    PpoConfig,
    RunConfig,
    SacConfig,
    Td3Config,
    VTraceConfig,
)

_REUSED = {
    "all": "every weight",
    "frozen-torso": "every weight, and the torso was not trained again",
    "reset-heads": "every weight but heads, PopArt statistics and temperatures, which began anew",
}
_POLICIES = ("greedy", "sampled", "random")


def model_card(
    config: RunConfig,
    protocol: Mapping[str, Any],
    *,
    name: str,
    tasks: Sequence[str],
    env_steps: int,
    frames_per_step: int,
    checkpoint: str,
    scores: Scores,
    arrays: Mapping[str, np.ndarray],
) -> str:
    """Return the card as Markdown with the front matter that model hubs read.

    Args:
        config: of the run.
        protocol: its protocol block.
        name: of the run.
        tasks: that it was trained on.
        env_steps: agent steps that these weights have learnt from.
        frames_per_step: emulated frames, or simulated steps, to an agent step.
        checkpoint: that the weights are of.
        scores: the newest that the run has recorded.
        arrays: the weights, by name.
    """
    sections = (
        _front(config),
        f"# {name}\n\n{_what(config, tasks, arrays)}",
        f"## Tasks\n\n{_tasks(config, tasks, protocol)}",
        f"## Scores\n\n{_table(tasks, scores, env_steps, config.initial.trained_before)}",
        f"## Protocol\n\n{_protocol(config, protocol)}",
        f"## Training\n\n{_training(config, tasks, env_steps, frames_per_step, checkpoint)}",
        f"## Use\n\n{_use(tasks[0])}",
        f"## Files\n\n{_FILES}",
        f"## Licence\n\n{_licence(config)}",
        f"## Limits\n\n{_LIMITS}",
    )
    return "\n\n".join(sections) + "\n"


def _front(config: RunConfig) -> str:
    tags = [
        "reinforcement-learning",
        "multi-task",
        config.environment.suite,
        config.algorithm.kind,
    ]
    lines = "\n".join(f"- {tag}" for tag in tags)
    return (
        f"---\nlibrary_name: repertory\npipeline_tag: reinforcement-learning\ntags:\n{lines}\n---"
    )


def _what(config: RunConfig, tasks: Sequence[str], arrays: Mapping[str, np.ndarray]) -> str:
    parameters = sum(array.size for array in arrays.values() if array.dtype.kind == "f")
    many = f"{len(tasks)} tasks" if len(tasks) > 1 else "one task"
    extras = ""
    guide = getattr(config.algorithm, "guide", None)
    if guide is not None and guide.kind != "none":
        extras += f", with guidance between tasks ({guide.kind})"
    if config.gradients.method == "harmony":
        extras += ", each task through a mask of its own"
    elif config.gradients.method != "mean":
        extras += f", gradients joined by {config.gradients.method}"
    return (
        f"One agent for {many} of {_suite(config)}, trained by {_algorithm(config)}{extras}. "
        f"{parameters:,} numbers in {len(arrays)} arrays."
    )


def _suite(config: RunConfig) -> str:
    match config.environment:
        case AtariConfig():
            return "Atari 2600 (Arcade Learning Environment)"
        case MetaworldConfig():
            return "Meta-World"
        case HalfCheetahConfig():
            return "HalfCheetah (MuJoCo)"
        case other:
            return f"the suite {other.suite}"


def _algorithm(config: RunConfig) -> str:
    match config.algorithm:
        case VTraceConfig():
            return "V-trace (Espeholt et al. 2018)"
        case PpoConfig():
            return "PPO (Schulman et al. 2017)"
        case SacConfig():
            return "soft actor-critic (Haarnoja et al. 2018)"
        case Td3Config():
            return "TD3 (Fujimoto et al. 2018)"


def _tasks(config: RunConfig, tasks: Sequence[str], protocol: Mapping[str, Any]) -> str:
    text = "Trained on:\n\n" + "\n".join(f"- `{task}`" for task in tasks)
    held_out = protocol.get("held_out") or []
    if held_out:
        text += "\n\nHeld out: " + ", ".join(f"`{task}`" for task in held_out) + "."
    if config.environment.suite == "atari":
        text += "\n\nA task is a game in a mode and a difficulty of the console's switches."
    return text


def _table(tasks: Sequence[str], scores: Scores, env_steps: int, before: Collection[str]) -> str:
    if not scores:
        return (
            "No evaluation had been recorded at the time of the export; "
            "`repertory evaluate DIR --policy greedy sampled random` makes one."
        )
    policies = [p for p in _POLICIES if any(p in by_policy for by_policy in scores.values())]
    others = [task for task in scores if task not in tasks]
    lines = [
        "| task | " + " | ".join(policies) + " |",
        "| --- |" + " ---: |" * len(policies),
    ]
    foreign = False
    for task in (*[t for t in tasks if t in scores], *others):
        cells = []
        for policy in policies:
            score = scores[task].get(policy)
            # Random play is nobody's weights.
            differs = score is not None and policy != "random" and score.env_steps != env_steps
            foreign |= differs
            mark = f" (at {score.env_steps:,} steps)" if score is not None and differs else ""
            cells.append("-" if score is None else f"{score}{mark}")
        history = ""
        if task in others:
            history = " (trained before)" if task in before else " (never trained on)"
        lines.append(f"| `{task}`{history} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Raw returns of whole episodes: mean ± standard error over n episodes of fixed seeds. "
        "*Greedy* takes the likeliest action, *sampled* draws as in training, *random* is uniform.",
    ]
    if foreign:
        lines.append("Scores with a number of steps are of another checkpoint of the same run.")
    return "\n".join(lines)


def _protocol(config: RunConfig, protocol: Mapping[str, Any]) -> str:
    settings = config.environment.model_dump(mode="json")
    rows = "\n".join(f"| {key} | `{json.dumps(value)}` |" for key, value in settings.items())
    versions = protocol.get("versions") or {}
    shown = ", ".join(f"{package} {number}" for package, number in versions.items() if number)
    commit = protocol.get("commit")
    return (
        f"| setting | value |\n| --- | --- |\n{rows}\n\n"
        "Evaluation plays whole episodes with raw rewards, whatever training clipped or cut, for "
        f"at most {config.evaluation.max_steps:,} agent steps each."
        + (f"\n\nTrained with {shown}" if shown else "")
        + (f", commit `{commit}`." if shown and commit else "." if shown else "")
    )


def _training(
    config: RunConfig, tasks: Sequence[str], env_steps: int, frames_per_step: int, checkpoint: str
) -> str:
    per_task = env_steps / len(tasks)
    frames = f" ({env_steps * frames_per_step:,} frames)" if frames_per_step > 1 else ""
    return (
        f"These weights are of checkpoint `{checkpoint}` of a run of the recipe "
        f"`{config.recipe}` with seed {config.seed}, after {env_steps:,} agent steps{frames} over "
        f"all tasks, {per_task:,.0f} per task; the run's budget was {config.total_steps:,}. "
        f"{_beginning(config)} Every setting is in `config.json`."
    )


def _beginning(config: RunConfig) -> str:
    """Return what the agent knew when it began, and what it learnt from beside its own play."""
    initial, guide = config.initial, getattr(config.algorithm, "guide", None)
    said = []
    if initial.loads:
        folder = Path(initial.checkpoint)
        exported = folder.is_absolute() and not folder.name.startswith("step_")
        source = f"checkpoint `{folder.name}` of the run" if folder.name else "the run"
        source = "the exported agent" if exported else source
        known = ", ".join(f"`{task}`" for task in initial.parent_tasks)
        said.append(
            f"It was fine-tuned: it began with weights of {source} `{Path(initial.parent).name}`, "
            f"trained on {known}. Taken over was {_REUSED[initial.reuse]}."
        )
    if guide is not None and guide.experts:
        experts = ", ".join(f"`{Path(path).name}`" for path in guide.experts)
        said.append(
            "In training its guide could let the policies of earlier runs act in its place, and it "
            f"learnt from what they played: {experts}."
        )
    return " ".join(said) or "The agent saw nothing but these tasks' own play."


def _use(task: str) -> str:
    return f"""With a checkout of Repertory installed (`make setup`):

```
repertory evaluate DIR --policy greedy random
repertory watch DIR --task {task} --video film.mp4
```

Or in Python, without its command line:

```python
import numpy as np
from deploy.export.agent import ExportedAgent

agent = ExportedAgent.open("DIR")  # checks the hashes; nothing is unpickled
lanes, act = agent.lanes("{task}"), agent.acting("{task}")
observation, started, episodes = lanes.reset(), np.array([True]), ()
while not episodes:
    step = lanes.step(act(observation, started))
    observation, started, episodes = step.observation, step.started, step.episodes
print(episodes[0].raw_return)
```

The arrays alone need neither: `safetensors.numpy.load_file("DIR/model.safetensors")`."""


_FILES = """- `model.safetensors`: the weights by name: the acting network, with PopArt's statistics
  where it has them; critics, guide and temperatures of off-policy agents; `masks.*` as packed bits.
- `config.json`: the run's settings and protocol, and under `export` the masks' sizes.
- `manifest.json`: size and SHA-256 of each file, compared whenever the agent is loaded."""

_LIMITS = """- It plays the tasks above, under the protocol above. On other tasks of the same \
observations and actions it runs zero-shot, and nothing is promised.
- Scores are of one run with one seed. They compare only with scores under the same protocol.
- It was trained in simulation alone and is no controller for real machines."""


def _licence(config: RunConfig) -> str:
    text = (
        "Repertory, which made and plays this agent, is Apache-2.0. Whoever publishes these "
        "weights chooses their licence, and names it here."
    )
    match config.environment:
        case AtariConfig():
            return f"{text} The emulator, ALE, is GPL-2.0 and not part of this folder."
        case MetaworldConfig():
            return f"{text} Meta-World is MIT and MuJoCo Apache-2.0; neither is in this folder."
        case _:
            return text
