"""A run's metrics through Ray's own exporter, for Prometheus and Grafana.

`task/atari/pong/m0d0/return` becomes `ray_repertory_task_return{run=..., task="atari/pong/m0d0"}`,
`actor/steps_per_s` becomes `ray_repertory_actor_steps_per_s{run=...}` (Ray puts `ray_` before).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from ray.util.metrics import Gauge


def exported(name: str, tasks: Sequence[str]) -> tuple[str, str]:
    """Return the exporter's name of a metric, and the task it is of ("" if of none)."""
    # Of two tasks whose names begin alike, the longer one is meant.
    inside = [task for task in tasks if f"/{task}/" in f"{name}/"]
    task = max(inside, key=len, default="")
    short = f"{name}/".replace(f"/{task}/", "/", 1) if task else name
    return "repertory_" + re.sub(r"\W+", "_", short.strip("/")), task


class ExportedMetrics:
    """A sink whose rows are the newest values of gauges on the driver's node."""

    def __init__(self, run: str, tasks: Sequence[str]) -> None:
        self._run = run
        self._tasks = list(tasks)
        self._names: dict[str, tuple[str, str]] = {}
        self._gauges: dict[str, Gauge] = {}

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Set a gauge for every finite number of the row."""
        for metric, value in row.items():
            # Ray's exporter has the nodes by itself, each a label.
            if isinstance(value, str) or not math.isfinite(value) or metric.startswith("node/"):
                continue
            if metric not in self._names:
                self._names[metric] = exported(metric, self._tasks)
            name, task = self._names[metric]
            if name not in self._gauges:
                keys = ("run", "task") if task else ("run",)
                self._gauges[name] = Gauge(name, description=metric, tag_keys=keys)
            tags = {"run": self._run, "task": task} if task else {"run": self._run}
            self._gauges[name].set(float(value), tags=tags)

    def close(self) -> None:
        """Nothing is held back."""
