"""What off-policy updates report: summed on the device, read once per logging interval.

Axes: M tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class OffPolicyMetrics:
    """Means since they were last read, each over the updates that reported it.

    learner/<name> is a scalar; task/<name> has M numbers, reported as task/<task's name>/<name>.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device) -> None:
        self._tasks = list(tasks)
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one update's values; a name keeps its shape."""
        for name, value in values.items():
            detached = value.detach().double()
            if name in self._sums:
                self._sums[name] += detached
            else:
                self._sums[name] = detached.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Return the means and start afresh; the only device synchronisation."""
        names = list(self._sums)
        if not names:
            return {}
        numbers = torch.cat([self._sums[name].reshape(-1) for name in names]).tolist()
        metrics: dict[str, float] = {}
        for name in names:
            size = self._sums[name].numel()
            means = [total / self._counts[name] for total in numbers[:size]]
            numbers = numbers[size:]
            kind, _, quantity = name.partition("/")
            if kind == "task":
                for task, mean in zip(self._tasks, means, strict=True):
                    metrics[f"task/{task}/{quantity}"] = mean
            else:
                metrics[name] = means[0]
        self._sums, self._counts = {}, {}
        return metrics

    def state(self) -> dict[str, Any]:
        """Return the sums, so that a row that straddles a checkpoint is the same."""
        return {
            name: {"sum": total.cpu().numpy().copy(), "count": self._counts[name]}
            for name, total in self._sums.items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the sums."""
        self._sums = {
            name: torch.tensor(entry["sum"], dtype=torch.float64, device=self._device)
            for name, entry in state.items()
        }
        self._counts = {name: int(entry["count"]) for name, entry in state.items()}
