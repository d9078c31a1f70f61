"""From rows to one loss: means per task, which tasks count, and how much.

Axes: N rows ordered by task, N/M of each, M tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def per_task_means(rows: Float[Tensor, " N"], tasks: int) -> Float[Tensor, " {tasks}"]:
    """Return the mean of each task's rows; rows are ordered by task, as many of each."""
    return rows.view(tasks, -1).mean(1)


def by_task(values: Float[Tensor, " M"], rows: int) -> Float[Tensor, " {rows}"]:
    """Return each task's value for each of its rows."""
    tasks = values.shape[0]
    return values.unsqueeze(1).expand(tasks, rows // tasks).reshape(-1)


def loss_weights(
    log_temperature: Float[Tensor, " M"],
    rescale: Literal["none", "inverse_temperature", "exponential"],
) -> Float[Tensor, " M"]:
    """Return the weights of the tasks' losses, their mean 1, without a gradient.

    inverse_temperature: M softmax(-log alpha), so that the hardest tasks, whose temperatures are
    lowest, weigh most (He et al. 2024, equation 21 as released); exponential: M softmax(-alpha)
    (Yang et al. 2020).
    """
    log_temperature = log_temperature.detach()
    match rescale:
        case "none":
            return torch.ones_like(log_temperature)
        case "inverse_temperature":
            return log_temperature.shape[0] * torch.softmax(-log_temperature, 0)
        case "exponential":
            return log_temperature.shape[0] * torch.softmax(-log_temperature.exp(), 0)


def kept_tasks(means: Float[Tensor, " M"], threshold: float) -> Bool[Tensor, " M"]:
    """Return which tasks' critic losses do not exceed `threshold`; 0 keeps all.

    The loss maskout of Sun et al. 2022. What is not a number is kept, so that it is seen.
    """
    if threshold == 0.0:
        return torch.ones_like(means, dtype=torch.bool)
    return ~(means.detach().abs() > threshold)


def joined(
    means: Float[Tensor, " M"], weights: Float[Tensor, " M"], kept: Bool[Tensor, " M"]
) -> Float[Tensor, ""]:
    """Return the mean over all tasks of w_i L_i, of which those not kept contribute exactly 0."""
    return torch.where(kept, weights * means, 0.0).mean()
