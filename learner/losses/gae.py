"""Generalised advantage estimation.

Axes: T steps, T1 = T + 1 values (the last bootstraps), B columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Estimate(NamedTuple):
    """Advantages and the value targets that belong to them; neither carries a gradient."""

    advantage: Float[Tensor, "T B"]
    target: Float[Tensor, "T B"]


def generalised_advantages(
    *,
    reward: Float[Tensor, "T B"],
    discount: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    value: Float[Tensor, "T1 B"],
    gae_lambda: float,
) -> Estimate:
    """Return A_t = delta_t + gamma_t lambda A_{t+1} and A_t + V(x_t) (Schulman et al. 2016).

    A step that is not valid (the one that resets) has advantage 0 and carries nothing back.
    """
    value = value.detach()
    reward = torch.where(valid, reward, 0.0)
    difference = torch.where(valid, reward + discount * value[1:] - value[:-1], 0.0)
    carried = torch.where(valid, gae_lambda * discount, 0.0)
    advantage = torch.zeros_like(value[0])
    advantages = []
    for step in range(reward.shape[0] - 1, -1, -1):
        advantage = difference[step] + carried[step] * advantage
        advantages.append(advantage)
    stacked = torch.stack(advantages[::-1])
    return Estimate(stacked, stacked + value[:-1])
