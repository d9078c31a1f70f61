"""Keeps account of environments that failed, and of the tasks that nobody plays any more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from repertory.errors import EnvironmentFailure
from repertory.types import EnvironmentFault, TaskSpec, Unroll


class FaultRecords:
    """What workers report of their environments, with every delivery.

    A task is retired while some worker has given it up and none plays it: the worker that replaces
    one, or a resumed run, tries again.
    """

    def __init__(self, tasks: Sequence[TaskSpec]) -> None:
        self._names = [task.name for task in tasks]
        self._counts = [0] * len(tasks)
        self._news: list[EnvironmentFault] = []
        self._first: dict[int, str] = {}
        self._played: dict[int, tuple[np.ndarray, tuple[int, ...]]] = {}
        self.retired: frozenset[int] = frozenset()

    def note(self, unroll: Unroll) -> bool:
        """Take note of a delivery and return whether it changed which tasks are retired."""
        for fault in unroll.faults:
            self._counts[fault.task] += 1
            self._news.append(fault)
            self._first.setdefault(fault.task, fault.reason)
        self._played[unroll.worker] = (unroll.task, unroll.given_up)
        if not self.retired and not unroll.given_up:
            return False
        given_up = {task for _, lost in self._played.values() for task in lost}
        played = {
            task
            for tasks, lost in self._played.values()
            for task in tasks.tolist()
            if task not in lost
        }
        before, self.retired = self.retired, frozenset(given_up - played)
        return self.retired != before

    def check_replayed(self, held: Int64[np.ndarray, " M"]) -> None:
        """Raise EnvironmentFailure if nobody plays any task, or one of which no step is held."""
        retired = sorted(self.retired)
        if retired and len(retired) == len(self._names):
            raise self.failure(retired, "every task was given up")
        if empty := [task for task in retired if not held[task]]:
            raise self.failure(empty, "a task was given up before it left anything to replay")

    def failure(self, tasks: Sequence[int], why: str) -> EnvironmentFailure:
        """Return what ends a run that cannot go on without `tasks`, with the first one's cause."""
        cause = self._first.get(tasks[0], "its environments failed")
        return EnvironmentFailure(f"{why}; {self._names[tasks[0]]} failed first with: {cause}")

    def drain(self) -> list[EnvironmentFault]:
        """Return the failures since the last call."""
        news, self._news = self._news, []
        return news

    def metrics(self) -> dict[str, float]:
        """Return the failures so far, in all and of each task that had any."""
        row = {
            "health/environment_errors": float(sum(self._counts)),
            "health/tasks_given_up": float(len(self.retired)),
        }
        for name, count in zip(self._names, self._counts, strict=True):
            if count:
                row[f"task/{name}/environment_errors"] = float(count)
        return row
