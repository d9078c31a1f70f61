"""Metrics of the guide, summed on the device and read once per row.

Axes: W windows, M tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from learner.guide_filter import Filtered

SUMMED = ("critic_loss", "comparable_loss", "policy_loss", "masked_out")


class GuideReport(NamedTuple):
    """What one update says of itself."""

    critic_loss: Float[Tensor, ""]
    comparable_loss: Float[Tensor, ""]
    policy_loss: Float[Tensor, ""]
    masked_out: Float[Tensor, ""]
    """Share of the tasks at hand that the loss maskout left out."""
    entropy: Float[Tensor, " W"]
    """Of the guide at each window's first state, in nats."""


def per_task(rows: Float[Tensor, " W"], task: Int[Tensor, " W"], tasks: int) -> Float[Tensor, " M"]:
    """Return the sum of each task's rows, in a fixed order on every device."""
    member = task == torch.arange(tasks, device=task.device).unsqueeze(1)
    return torch.where(member, rows, 0.0).sum(1)


def kept_tasks(
    rows: Float[Tensor, " W"],
    task: Int[Tensor, " W"],
    counts: Float[Tensor, " M"],
    threshold: float,
) -> Bool[Tensor, " M"]:
    """Say whose mean loss is at most `threshold` (loss maskout, Sun et al. 2022); 0 keeps all."""
    if not threshold:
        return torch.ones_like(counts, dtype=torch.bool)
    means = per_task(rows.detach(), task, len(counts)) / counts.clamp(min=1.0)
    return means.abs() <= threshold


class GuideMetrics:
    """Sums reports since they were last read."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = list(names)
        self._sums = torch.zeros(len(SUMMED), dtype=torch.float64, device=device)
        self._entropy = torch.zeros(len(names), dtype=torch.float64, device=device)
        self._windows = torch.zeros(len(names), dtype=torch.float64, device=device)
        self._relabelled = torch.zeros((), dtype=torch.float64, device=device)
        self._filtered = torch.zeros(2, dtype=torch.float64, device=device)
        self._updates = 0

    def add(
        self,
        one: GuideReport,
        *,
        task: Int[Tensor, " W"],
        counts: Float[Tensor, " M"],
        relabelled: Bool[Tensor, " W"],
    ) -> None:
        """Add one update."""
        self._sums += torch.stack([getattr(one, name).double() for name in SUMMED])
        self._entropy += per_task(one.entropy, task, len(self._names))
        self._windows += counts
        self._relabelled += relabelled.sum()
        self._updates += 1

    def add_filtered(self, one: Filtered) -> None:
        """Add what the policy filter keeps out in this update's windows."""
        self._filtered += torch.stack([one.candidates, one.states])

    def read(self, *, soft: bool, compared: bool, filtering: bool) -> dict[str, float]:
        """Return means since the last call and start afresh; no entries without an update.

        `soft`: the guide is a policy with an entropy; `compared`: it has a comparable critic beside
        its own; `filtering`: the policy filter is in use.
        """
        updates, windows = self._updates, self._windows.tolist()
        if not updates:
            return {}
        metrics = {
            f"guide/{name}": total / updates
            for name, total in zip(SUMMED, self._sums.tolist(), strict=True)
            if (soft or name != "policy_loss") and (compared or name != "comparable_loss")
        }
        metrics["guide/relabelled"] = float(self._relabelled) / max(sum(windows), 1.0)
        if filtering:
            candidates, states = self._filtered.tolist()
            metrics["guide/filtered"] = candidates / updates
            metrics["guide/none_passed"] = states / updates
        entropies = {
            name: total / count
            for name, total, count in zip(self._names, self._entropy.tolist(), windows, strict=True)
            if count and soft
        }
        if entropies:
            metrics["guide/entropy"] = sum(entropies.values()) / len(entropies)
        metrics |= {f"task/{name}/guide_entropy": value for name, value in entropies.items()}
        self._reset()
        return metrics

    def _reset(self) -> None:
        sums = (self._sums, self._entropy, self._windows, self._relabelled, self._filtered)
        for total in sums:
            total.zero_()
        self._updates = 0

    def state(self) -> dict[str, Any]:
        """Return the sums, so that a row that straddles a checkpoint is the same."""
        return {
            "sums": self._sums.cpu().numpy().copy(),
            "entropy": self._entropy.cpu().numpy().copy(),
            "windows": self._windows.cpu().numpy().copy(),
            "relabelled": float(self._relabelled),
            "filtered": self._filtered.cpu().numpy().copy(),
            "updates": self._updates,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the sums."""
        self._sums.copy_(torch.tensor(state["sums"]))
        self._entropy.copy_(torch.tensor(state["entropy"]))
        self._windows.copy_(torch.tensor(state["windows"]))
        self._relabelled.fill_(state["relabelled"])
        self._filtered.copy_(torch.tensor(state["filtered"]))
        self._updates = int(state["updates"])
