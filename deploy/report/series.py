"""Reads metrics.jsonl of any length into series of bounded length.

Axes: K points.
"""

from __future__ import annotations

import json
import logging
import math
from array import array
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from repertory.metrics import names

log = logging.getLogger(__name__)

LIMIT = 256
"""Points that a longer series is thinned to, at least; at most twice as many."""
QUEUE_FILL, REPLAY_FILL = "mean/queue", "mean/replay_fill"
"""Means over the tasks, which are not in the file."""
_OF_TASKS = frozenset({names.RETURN, names.SUCCESS})
_MEANS = {names.QUEUE: QUEUE_FILL, names.REPLAY_FILL: REPLAY_FILL}
_OVERALL = ("agg/", "actor/", "lag/", "health/", "replay/", "learner/")
_EVALUATION = "eval/"


class Series:
    """Values over agent steps. Beyond the limit neighbours are merged into their means."""

    __slots__ = ("_held", "_stride", "_x", "_y", "last")

    def __init__(self) -> None:
        self._x = array("d")
        self._y = array("d")
        self._stride = 1
        self._held: list[tuple[float, float]] = []
        self.last = math.nan
        """The newest value, as it was written."""

    def add(self, x: float, y: float) -> None:
        """Append a value; one for an earlier point is put in its place."""
        if self._x and x <= self._x[-1] and self._stride == 1:
            place = bisect_left(self._x, x)
            if self._x[place] == x:
                self._y[place] = y
            else:
                self._x.insert(place, x)
                self._y.insert(place, y)
            if place == len(self._x) - 1:
                self.last = y
            return
        self.last = y
        self._held.append((x, y))
        if len(self._held) == self._stride:
            self._merge()
        if len(self._x) >= 2 * LIMIT:
            self._halve()

    def cut(self, x: float) -> None:
        """Forget what lies after `x`: a resumed run plays those steps again."""
        self._held = [point for point in self._held if point[0] <= x]
        while self._x and self._x[-1] > x:
            self._x.pop()
            self._y.pop()

    def points(self) -> tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
        """Return agent steps and values, in order."""
        x, y = list(self._x), list(self._y)
        if self._held:
            x.append(sum(point[0] for point in self._held) / len(self._held))
            y.append(sum(point[1] for point in self._held) / len(self._held))
        return np.array(x, np.float64), np.array(y, np.float64)

    def __len__(self) -> int:
        return len(self._x) + bool(self._held)

    def _merge(self) -> None:
        self._x.append(sum(point[0] for point in self._held) / len(self._held))
        self._y.append(sum(point[1] for point in self._held) / len(self._held))
        self._held = []

    def _halve(self) -> None:
        for values in (self._x, self._y):
            halves = np.array(values).reshape(-1, 2).mean(axis=1)
            del values[:]
            values.extend(halves.tolist())
        self._stride *= 2


class Metrics:
    """The series of a run that a report shows, by the metrics' names."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.env_steps = 0
        self.wall_s = 0.0
        self.rows = 0
        self.torn = 0
        self._trained_to = 0.0

    def add(self, row: dict[str, Any]) -> None:
        """Take a row up; what is no finite number is passed over."""
        x = row.get(names.ENV_STEPS)
        if not isinstance(x, int | float):
            return
        x = float(x)
        self.rows += 1
        evaluated = any(name.startswith(_EVALUATION) for name in row)
        if not evaluated:
            if x < self._trained_to:
                for name, series in self.series.items():
                    if not name.startswith(_EVALUATION):
                        series.cut(x)
            self._trained_to = x
        self.env_steps = int(max(self._trained_to, x))
        self.wall_s = float(row.get(names.WALL_S, self.wall_s))
        sums: dict[str, list[float]] = {}
        for name, value in row.items():
            kept = _kept(name)
            if not kept or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            if kept == name:
                self._of(name).add(x, float(value))
            else:
                sums.setdefault(kept, []).append(float(value))
        for name, values in sums.items():
            self._of(name).add(x, sum(values) / len(values))

    def __contains__(self, name: str) -> bool:
        return name in self.series

    def _of(self, name: str) -> Series:
        if name not in self.series:
            self.series[name] = Series()
        return self.series[name]


def read_metrics(path: Path) -> Metrics:
    """Read a metrics.jsonl row by row; torn lines are counted, no file is no rows."""
    metrics = Metrics()
    if not path.exists():
        return metrics
    with path.open("rb") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                metrics.torn += bool(line.strip())
                continue
            if isinstance(row, dict):
                metrics.add(row)
            else:
                metrics.torn += 1
    if metrics.torn:
        log.warning("%s: %d torn lines left out", path, metrics.torn)
    return metrics


@lru_cache(maxsize=65_536)
def _kept(name: str) -> str:
    """Return the series that a metric belongs to; empty for what no report shows."""
    of_task = names.split_task_metric(name)
    if of_task is not None:
        metric = of_task[1]
        return name if metric in _OF_TASKS else _MEANS.get(metric, "")
    if name.startswith(_EVALUATION):
        return name if name.rpartition("/")[2] in _OF_TASKS else ""
    if name.startswith(_OVERALL):
        return "" if name.count("/") > 1 else name
    return ""
