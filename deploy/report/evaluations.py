"""What evaluations found: the newest score of every task under every policy, by run."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

log = logging.getLogger(__name__)

History = Literal["trained", "before", "never"]
"""Whether the run trained on a task; or, before it, only the one whose weights it began with."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Whole episodes of one task under one policy, with the weights of one moment."""

    task: str
    policy: str
    env_steps: int
    returns: tuple[float, ...]
    success: float | None
    """Share of successes; None where the task knows none."""
    history: History
    cut: int
    seed: int | None = None
    """Of the episodes; None where the file does not say."""
    file: str = ""
    """Name of the file: what one evaluation found is in one."""

    @property
    def trained_on(self) -> bool:
        """Whether the run itself trained on the task."""
        return self.history == "trained"

    @property
    def mean(self) -> float:
        """Mean raw return."""
        return float(np.mean(self.returns))


def read_evaluations(folder: Path, before: Collection[str] = ()) -> list[Evaluation]:
    """Return the newest score of each task and policy; files that cannot be read are named.

    The newest is that of the most steps; of random play, which no step changes, the latest one.

    Args:
        folder: of a run's evaluations.
        before: tasks of the run whose weights this one began with, for files that do not say so.
    """
    newest: dict[tuple[str, str], Evaluation] = {}
    for path in sorted(folder.glob("step_*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            seed = None if content.get("seed") is None else int(content["seed"])
            steps = int(content["env_steps"])
            found = [
                _evaluation(saved, steps, seed, path.name, before) for saved in content["scores"]
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is left out: %s", path, error)
            continue
        for one in found:
            earlier = newest.get((one.task, one.policy))
            if one.policy != "random" or earlier is None or _when(one) >= _when(earlier):
                newest[one.task, one.policy] = one
    return list(newest.values())


def _when(one: Evaluation) -> str:
    """Return the moment in the name of an evaluation's file, which begins with the step."""
    return one.file.partition("-")[2]


def _evaluation(
    saved: dict[str, Any], env_steps: int, seed: int | None, file: str, before: Collection[str]
) -> Evaluation:
    successes = [bool(success) for success in saved.get("successes", ())]
    returns = tuple(float(value) for value in saved["returns"])
    if not returns:
        raise ValueError(f"no episode of {saved['task']}")
    return Evaluation(
        task=str(saved["task"]),
        policy=str(saved["policy"]),
        env_steps=env_steps,
        returns=returns,
        success=sum(successes) / len(successes) if successes else None,
        history=_history(saved, before),
        cut=int(saved.get("cut", 0)),
        seed=seed,
        file=file,
    )


def _history(saved: dict[str, Any], before: Collection[str]) -> History:
    if saved.get("trained_on", True):
        return "trained"
    return "before" if saved.get("trained_before", saved["task"] in before) else "never"
