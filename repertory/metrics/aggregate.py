"""Running means over each task's last episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from repertory.metrics import names
from repertory.ports import State
from repertory.types import EpisodeRecord


class EpisodeAverages:
    """Per-task means of the raw return, length and success of the last `window` episodes.

    A task without an episode yet has no row, so that nobody takes a missing number for a zero.
    """

    def __init__(self, tasks: Sequence[str], window: int) -> None:
        if window < 1:
            raise ValueError(f"window {window} must be at least 1")
        self.tasks = tuple(tasks)
        self.window = window
        self._columns = [_Window(window) for _ in self.tasks]

    def add(self, records: Iterable[EpisodeRecord]) -> None:
        """Count finished episodes, oldest first. Raises ValueError for an unknown task index."""
        for record in records:
            if not 0 <= record.task < len(self.tasks):
                raise ValueError(
                    f"episode of task {record.task}, but the tasks are 0 to {len(self.tasks) - 1}"
                )
            self._columns[record.task].add(record)

    def metrics(self) -> dict[str, float]:
        """Return the current means under their full names, and means over the tasks heard of."""
        row: dict[str, float] = {}
        means: dict[str, list[float]] = {names.RETURN: [], names.LENGTH: [], names.SUCCESS: []}
        for task, column in zip(self.tasks, self._columns, strict=True):
            for metric, value in column.means().items():
                row[names.task_metric(task, metric)] = value
                means[metric].append(value)
            if column.count:
                row[names.task_metric(task, names.EPISODES)] = float(column.count)
        for metric, name in (
            (names.RETURN, names.RETURN_MEAN),
            (names.LENGTH, names.LENGTH_MEAN),
            (names.SUCCESS, names.SUCCESS_MEAN),
        ):
            if means[metric]:
                row[name] = float(np.mean(means[metric]))
        row[names.EPISODES_TOTAL] = float(sum(column.count for column in self._columns))
        row[names.TASKS_REPORTING] = float(len(means[names.RETURN]))
        return row

    def state(self) -> State:
        """Return the windows by task name, so that a run resumed with other tasks finds its own."""
        return {
            task: column.state() for task, column in zip(self.tasks, self._columns, strict=True)
        }

    def restore(self, state: State) -> None:
        """Take up the windows of the tasks that are in `state`; others start empty."""
        self._columns = [_Window(self.window) for _ in self.tasks]
        for task, column in zip(self.tasks, self._columns, strict=True):
            if task in state:
                column.restore(state[task])


class _Window:
    """One task's last episodes. Success is NaN where an episode has no such notion."""

    def __init__(self, window: int) -> None:
        self.count = 0
        self._episodes: deque[tuple[float, float, float]] = deque(maxlen=window)

    def add(self, record: EpisodeRecord) -> None:
        success = float("nan") if record.success is None else float(record.success)
        self._episodes.append((float(record.raw_return), float(record.length), success))
        self.count += 1

    def means(self) -> dict[str, float]:
        if not self._episodes:
            return {}
        table = np.array(self._episodes, dtype=np.float64)
        means = {
            names.RETURN: float(table[:, 0].mean()),
            names.LENGTH: float(table[:, 1].mean()),
        }
        judged = table[~np.isnan(table[:, 2]), 2]
        if judged.size:
            means[names.SUCCESS] = float(judged.mean())
        return means

    def state(self) -> State:
        table = np.array(self._episodes, dtype=np.float64).reshape(-1, 3)
        return {"count": self.count, "episodes": table}

    def restore(self, state: State) -> None:
        self.count = int(state["count"])
        self._episodes.clear()
        self._episodes.extend(tuple(row) for row in state["episodes"].tolist())
