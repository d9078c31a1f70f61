"""What an update reports, summed on the device and read once per logging interval.

Axes: T steps, B columns, M tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from learner.losses.policy_gradient import ActorCriticRows
from learner.parallel.exchange import Exchange, largest, maxima
from learner.popart import sums_per_task

SUMMED = (
    "steps",
    "policy_loss",
    "value_loss",
    "entropy",
    "rho",
    "ratio",
    "residual",
    "residual_squared",
    "target",
    "target_squared",
)
"""Sums over valid steps, in the order of `Report.sums`."""
SUMMED_PER_TASK = ("steps", "entropy", "value", "rho")
"""Sums over each task's valid steps, in the order of `Report.task_sums`."""


class Report(NamedTuple):
    """Sums over one batch."""

    sums: Float[Tensor, " K"]
    task_sums: Float[Tensor, "M J"]
    ratio_max: Float[Tensor, ""]


def report(
    *,
    rows: ActorCriticRows,
    ratio: Float[Tensor, "T B"],
    rho: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    normalised_value: Float[Tensor, "T B"],
    normalised_target: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    task: Int[Tensor, " B"],
    tasks: int,
) -> Report:
    """Sum what the metrics need; entropy, value and rho also per task."""
    rows = ActorCriticRows(*(row.detach() for row in rows))
    steps = valid.to(torch.float32)
    rho = torch.where(valid, rho, 0.0)
    ratio = torch.where(valid, ratio, 0.0)
    value = torch.where(valid, value.detach(), 0.0)
    target = torch.where(valid, normalised_target, 0.0)
    residual = torch.where(valid, normalised_target - normalised_value.detach(), 0.0)
    entropy = -rows.entropy
    losses = (steps, rows.policy, rows.value, entropy)
    fit = (residual, residual.square(), target, target.square())
    summed = (*losses, rho, ratio, *fit)
    per_task = torch.stack([steps.sum(0), entropy.sum(0), value.sum(0), rho.sum(0)], -1)
    return Report(
        torch.stack([entry.sum() for entry in summed]),
        sums_per_task(per_task, task, tasks),
        ratio.max(),
    )


def report_parts(one: Report, exchange: Exchange) -> tuple[Tensor, ...]:
    """Return what a learner gives to the total of all learners' reports."""
    return one.sums, one.task_sums, maxima(exchange, one.ratio_max)


def report_of_parts(totals: Sequence[Tensor]) -> Report:
    """Return the report of all learners together from the total."""
    sums, task_sums, ratios = totals
    return Report(sums, task_sums, largest(ratios))


class UpdateMetrics:
    """Sums reports since they were last read."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = list(names)
        self._sums = torch.zeros(len(SUMMED), dtype=torch.float64, device=device)
        self._task_sums = torch.zeros(
            len(names), len(SUMMED_PER_TASK), dtype=torch.float64, device=device
        )
        # Gradient norms over updates, and the largest ratio.
        self._norms = torch.zeros((), dtype=torch.float64, device=device)
        self._ratio_max = torch.zeros((), dtype=torch.float64, device=device)
        self._updates = 0

    def add(self, one: Report, gradient_norm: Float[Tensor, ""]) -> None:
        """Add one update's sums."""
        self._sums += one.sums
        self._task_sums += one.task_sums
        self._norms += gradient_norm
        self._ratio_max = torch.maximum(self._ratio_max, one.ratio_max.double())
        self._updates += 1

    def read(self) -> dict[str, float]:
        """Return means over the valid steps since the last call, and start afresh.

        Losses are per step whatever the reduction; the explained variance is that of (normalised)
        targets, 1 - Var(target - value) / Var(target). Nothing since the last call, no entries.
        """
        sums = dict(zip(SUMMED, self._sums.tolist(), strict=True))
        task_sums = self._task_sums.tolist()
        norms, ratio_max = float(self._norms), float(self._ratio_max)
        updates, steps = self._updates, sums["steps"]
        self._reset()
        if not updates or not steps:
            return {}
        mean = {name: total / steps for name, total in sums.items()}
        metrics = {
            f"learner/{name}": mean[name] for name in ("policy_loss", "value_loss", "entropy")
        }
        metrics["learner/rho_mean"] = mean["rho"]
        metrics["learner/ratio_mean"] = mean["ratio"]
        metrics["learner/ratio_max"] = ratio_max
        metrics["learner/gradient_norm"] = norms / updates
        spread = mean["target_squared"] - mean["target"] ** 2
        if spread > 1e-12:
            unexplained = mean["residual_squared"] - mean["residual"] ** 2
            metrics["learner/explained_variance"] = 1.0 - unexplained / spread
        for name, entries in zip(self._names, task_sums, strict=True):
            of_task = dict(zip(SUMMED_PER_TASK, entries, strict=True))
            if of_task["steps"]:
                metrics[f"task/{name}/entropy"] = of_task["entropy"] / of_task["steps"]
                metrics[f"task/{name}/value_mean"] = of_task["value"] / of_task["steps"]
                metrics[f"task/{name}/rho_mean"] = of_task["rho"] / of_task["steps"]
        return metrics

    def _reset(self) -> None:
        """Set everything to zero."""
        for total in (self._sums, self._task_sums, self._norms, self._ratio_max):
            total.zero_()
        self._updates = 0

    def state(self) -> dict[str, Any]:
        """Return the sums, so that a row that straddles a checkpoint is the same."""
        return {
            "sums": _array(self._sums),
            "task_sums": _array(self._task_sums),
            "norms": float(self._norms),
            "ratio_max": float(self._ratio_max),
            "updates": self._updates,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the sums."""
        self._sums.copy_(torch.tensor(state["sums"]))
        self._task_sums.copy_(torch.tensor(state["task_sums"]))
        self._norms.fill_(state["norms"])
        self._ratio_max.fill_(state["ratio_max"])
        self._updates = int(state["updates"])


def _array(tensor: Float64[Tensor, "*shape"]) -> Any:
    """Return a tensor as a new array."""
    return tensor.cpu().numpy().copy()
