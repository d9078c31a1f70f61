"""What a network is told of its task: nothing, a one-hot code, or a learned embedding.

Axes: `rows` are those of the features, M tasks, F features.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from repertory.networks.layers import Dense


class TaskConditioning(nn.Module):
    """Join features and task, and mix them in one dense layer.

    Without the mixing layer a linear head would see nothing of the task but a constant. A task
    that was not trained on (any index outside 0..M-1) has a code of zeros, or the mean of the
    learned embeddings.
    """

    def __init__(
        self,
        kind: Literal["one_hot", "embedding"],
        *,
        tasks: int,
        features: int,
        embedding_size: int,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        size = tasks if kind == "one_hot" else embedding_size
        self.embedding = (
            nn.Parameter(torch.full((tasks, size), math.nan)) if kind == "embedding" else None
        )
        self.mix = Dense(features + size, features)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the embeddings from a standard normal."""
        if self.embedding is not None:
            with torch.no_grad():
                self.embedding.copy_(torch.randn(self.embedding.shape, generator=generator))

    def _code(self, task: Tensor) -> Tensor:
        """Return what stands for each task, [rows, size]."""
        known = ((task >= 0) & (task < self.tasks)).unsqueeze(-1)
        index = task.long().clamp(0, self.tasks - 1)
        if self.embedding is None:
            return F.one_hot(index, self.tasks).to(torch.float32) * known
        table = self.embedding.to(torch.float32)
        return torch.where(known, table[index], table.mean(0))

    def forward(
        self, features: Float[Tensor, "*rows F"], task: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows F"]:
        """Return features that know their task."""
        code = self._code(task).to(features.dtype)
        return F.relu(self.mix(torch.cat([features, code], -1)))
