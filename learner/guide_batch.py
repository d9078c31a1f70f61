"""What both kinds of guide learn from in one update.

Axes: W windows, M tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from learner.guide_report import kept_tasks
from learner.guide_windows import GuideWindows, Reading


class GuideBatch(NamedTuple):
    """What a guide learns from: windows, what the control policies say of them, and who counts."""

    prepared: GuideWindows
    reading: Reading
    counts: Float[Tensor, " M"]
    maskout: float
    """Largest mean loss of a task that still counts; 0 for no limit."""
    kept: Bool[Tensor, " M"]
    """Tasks that count as far as the control update says."""

    @property
    def task(self) -> Int[Tensor, " W"]:
        """Whose each window is."""
        return self.prepared.windows.task

    def keeping(self, rows: Float[Tensor, " W"]) -> Bool[Tensor, " M"]:
        """Return the tasks that count given these rows of a critic's loss."""
        return self.kept & kept_tasks(rows, self.task, self.counts, self.maskout)

    def mean(self, rows: Float[Tensor, " W"], kept: Bool[Tensor, " M"]) -> Float[Tensor, ""]:
        """Return the plain mean over the batch, rows of tasks left out counted as 0."""
        return torch.where(kept[self.task.long()], rows, 0.0).mean()
