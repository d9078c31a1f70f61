"""What twin critics learn towards (Fujimoto et al. 2018): targets and squared errors, by row.

Axes: C critics (two for twins), N rows.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def one_step_target(
    *,
    reward: Float[Tensor, " N"],
    next_value: Float[Tensor, " N"],
    terminated: Bool[Tensor, " N"],
    truncated: Bool[Tensor, " N"],
    discount: float,
    reward_scale: float,
    time_limit: Literal["bootstrap", "terminal"],
) -> Float[Tensor, " N"]:
    """Return scale r + gamma (1 - d) V(s') (He et al. 2024, equation 1).

    d is 1 where the episode terminated, and with `time_limit` terminal also where it was cut.
    """
    ended = terminated | truncated if time_limit == "terminal" else terminated
    # Not multiplied by 0: what lies beyond an end must not matter, finite or not.
    return reward_scale * reward + discount * torch.where(ended, 0.0, next_value)


def squared_errors(value: Float[Tensor, "C N"], target: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return the sum over critics of (Q_c - y)^2 (He et al. 2024, equation 1)."""
    return (value - target.detach()).square().sum(0)
