"""What happened to each task's rows in the trajectory queues, and the metrics made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repertory.types import TaskSpec


@dataclass(slots=True)
class TaskCounters:
    """What happened to one task's rows since the run began (all but the lags, which are
    drained).
    """

    rows: int = 0
    steps: int = 0
    dropped_overflow: int = 0
    dropped_stale: int = 0
    short_shares: int = 0
    lag_sum: int = 0
    lag_count: int = 0
    lag_max: int = 0

    def note_lag(self, lag: int) -> None:
        """Count a row that is used `lag` versions after it was played."""
        self.lag_sum += lag
        self.lag_count += 1
        self.lag_max = max(self.lag_max, lag)


def drained_row(
    tasks: Sequence[TaskSpec],
    counters: Sequence[TaskCounters],
    held: Sequence[int],
    targets: Sequence[int],
) -> dict[str, float]:
    """Return the metrics of all tasks together and of each, and begin the lags anew.

    `held` are the rows in each task's queue, `targets` those at which its actors are held back.
    """
    row: dict[str, float] = {
        "replay/dropped_overflow": sum(c.dropped_overflow for c in counters),
        "replay/dropped_stale": sum(c.dropped_stale for c in counters),
        "replay/short_shares": sum(c.short_shares for c in counters),
        "replay/rows": sum(held),
    }
    if lag_count := sum(c.lag_count for c in counters):
        row["lag/mean"] = sum(c.lag_sum for c in counters) / lag_count
        row["lag/max"] = max(c.lag_max for c in counters)
    for task, own, rows, target in zip(tasks, counters, held, targets, strict=True):
        row[f"task/{task.name}/queue"] = rows / target
        row[f"task/{task.name}/steps"] = own.steps
        row[f"task/{task.name}/dropped"] = own.dropped_overflow + own.dropped_stale
        if own.lag_count:
            row[f"task/{task.name}/lag"] = own.lag_sum / own.lag_count
        own.lag_sum = own.lag_count = own.lag_max = 0
    return {name: float(value) for name, value in row.items()}
