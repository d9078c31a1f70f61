"""Run directories with known numbers, written as a run writes them, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.report.grouping import grouped
from deploy.report.runs import Group, ReportedRun, find, read
from deploy.report.scales import Scale, measures, scales
from repertory.config import CountingConfig, RunConfig
from repertory.metrics.jsonl import JsonlSink
from repertory.run_directory import RunDirectory

TASKS = ("counting/0", "counting/1")


def reported_run(
    root: Path,
    name: str,
    *,
    seed: int = 1,
    tasks: Sequence[str] = TASKS,
    rows: Sequence[Mapping[str, Any]] | None = None,
    held_out: Sequence[str] = (),
    protocol: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RunDirectory:
    """Write a run of 1,000 steps; without `rows`, task k returns seed + k + steps / 100."""
    config = RunConfig(
        recipe=settings.pop("recipe", "made-up"),
        seed=seed,
        tasks=tuple(tasks),
        environment=CountingConfig(),
        total_steps=1_000,
        **settings,
    )
    run = RunDirectory.create(root, "made-up", name)
    run.write_config(
        config,
        {
            "versions": {"python": "3.11.7", "repertory": "0.1.0"},
            "commit": "0123abc",
            "environment": config.environment.model_dump(mode="json"),
            "tasks": list(tasks),
            "held_out": list(held_out),
            **(protocol or {}),
        },
    )
    sink = JsonlSink(run.metrics)
    for row in made_up_rows(seed, tasks) if rows is None else rows:
        sink.write(row)
    sink.close()
    return run


def made_up_rows(seed: int, tasks: Sequence[str] = TASKS) -> list[dict[str, Any]]:
    """Ten rows of training."""
    return [
        {
            "env_steps": steps,
            "updates": steps // 10,
            "wall_s": steps / 10,
            "actor/steps_per_s": 10.0 * seed,
            **{f"task/{t}/return": seed + k + steps / 100 for k, t in enumerate(tasks)},
            **{f"task/{t}/queue": 0.5 + k for k, t in enumerate(tasks)},
        }
        for steps in range(100, 1_001, 100)
    ]


def evaluated(
    run: RunDirectory,
    scores: Mapping[str, Sequence[float]],
    *,
    policy: str = "greedy",
    trained_on: bool = True,
    successes: Sequence[bool] = (),
    step: int = 1_000,
    seed: int = 12_345,
) -> None:
    """Add an evaluation file; later ones of the same step sort behind earlier ones."""
    count = len(list(run.evaluations.iterdir()))
    body = {
        "env_steps": step,
        "seed": seed,
        "scores": [
            {
                "task": task,
                "policy": policy,
                "returns": list(returns),
                "lengths": [10] * len(returns),
                "successes": list(successes),
                "cut": 0,
                "trained_on": trained_on,
            }
            for task, returns in scores.items()
        ],
    }
    path = run.evaluations / f"step_{step:012d}-20260101-000000-{count:06d}.json"
    path.write_text(json.dumps(body))


def groups_in(root: Path) -> list[Group]:
    """Read all runs of a directory, grouped."""
    return grouped([read(path) for path in find([root])])


def scales_of(groups: Sequence[Group], references: Sequence[ReportedRun] = ()) -> list[Scale]:
    """Return every scale of greedy evaluations, whatever it measures."""
    known = measures(groups, references, "greedy")
    return [scale for measure in known for scale in scales(groups, measure, "greedy")]
