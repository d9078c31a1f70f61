"""The newest scores that a run has recorded, per task and policy, for a model card."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class CardScore:
    """Raw results of one task under one policy, and when they were taken."""

    env_steps: int
    seed: int
    returns: tuple[float, ...]
    successes: tuple[bool, ...]

    def __str__(self) -> str:
        """Return mean and standard error, and the share of successes where there is one."""
        count = len(self.returns)
        text = f"{np.mean(self.returns):,.1f}"
        if count > 1:
            text += f" ± {np.std(self.returns, ddof=1) / math.sqrt(count):.1f}"
        if self.successes:
            text += f" ({sum(self.successes) / len(self.successes):.0%} success)"
        return f"{text}, n = {count}"


Scores = dict[str, dict[str, CardScore]]
"""By task, then by policy."""


def card_scores(run: RunDirectory, env_steps: int) -> Scores:
    """Return each task's score under each policy: of the weights of `env_steps` where there are
    such, else the newest.

    Files that are damaged are passed over: a card does without them.
    """
    found: Scores = {}
    for file in sorted(run.evaluations.glob("step_*.json"), key=_when):
        body = _read(file)
        if body is None:
            continue
        for task, policy, score in body:
            by_policy = found.setdefault(task, {})
            earlier = by_policy.get(policy)
            theirs = earlier is not None and earlier.env_steps == env_steps
            # Random play is nobody's weights: the latest counts.
            if policy == "random" or not theirs or score.env_steps == env_steps:
                by_policy[policy] = score
    return found


def _when(file: Any) -> str:
    """Return the moment in an evaluation's name, which begins with the step."""
    return str(file.stem).partition("-")[2]


def _read(file: Any) -> list[tuple[str, str, CardScore]] | None:
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        return [
            (
                str(score["task"]),
                str(score["policy"]),
                CardScore(
                    int(body["env_steps"]),
                    int(body["seed"]),
                    tuple(map(float, score["returns"])),
                    tuple(map(bool, score["successes"])),
                ),
            )
            for score in body["scores"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
