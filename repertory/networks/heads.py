"""Policy and value heads: always float32, since bfloat16 keeps only three digits of a value.

Axes: `rows` are those of the features, F features, A actions, M tasks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from repertory.networks.layers import Dense


class PolicyHead(Dense):
    """Logits. Its weights start a hundred times smaller: the first policy is nearly uniform."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__(features, actions, weight_scale=0.01)


class ValueHead(Dense):
    """One value, or with PopArt one normalised value and one pair of statistics per task.

    The un-normalised value is sigma[task] * output[task] + mu[task] (Hessel et al. 2019). The
    moments mu (first) and nu (second) are float64: nu - mu^2 cancels.
    """

    mu: Tensor
    nu: Tensor
    sigma: Tensor

    def __init__(self, features: int, *, tasks: int, popart: bool) -> None:
        super().__init__(features, tasks if popart else 1)
        self.popart = popart
        if popart:
            self.register_buffer("mu", torch.zeros(tasks, dtype=torch.float64))
            self.register_buffer("nu", torch.ones(tasks, dtype=torch.float64))
            self.register_buffer("sigma", torch.ones(tasks, dtype=torch.float64))

    def values(
        self, features: Float[Tensor, "*rows F"], task: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows"]:
        """Return un-normalised values; a task never trained on borrows the nearest index's."""
        output = self.outputs(features, task)
        if not self.popart:
            return output
        index = task.long().clamp(0, self.mu.shape[0] - 1)
        return output * self.sigma[index].to(output.dtype) + self.mu[index].to(output.dtype)

    def outputs(
        self, features: Float[Tensor, "*rows F"], task: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows"]:
        """Return values in the units of the losses: normalised with PopArt, else as they are."""
        if not self.popart:
            return F.linear(features, self.weight, self.bias).squeeze(-1)
        index = task.long().clamp(0, self.mu.shape[0] - 1)
        return normalised_values(features, index, self.weight, self.bias)


def normalised_values(
    features: Float[Tensor, "*rows F"],
    task: Int[Tensor, "*rows"],
    weight: Float[Tensor, "M F"],
    bias: Float[Tensor, " M"] | None,
) -> Float[Tensor, "*rows"]:
    """Return the output that belongs to each row's task, of a head with one output per task."""
    outputs = F.linear(features, weight, bias)
    return outputs.gather(-1, task.long().unsqueeze(-1)).squeeze(-1)
