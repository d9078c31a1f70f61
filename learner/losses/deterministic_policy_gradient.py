"""Rows of TD3's losses, and its smoothed target actions (Fujimoto et al. 2018).

Axes: C critics (two for twins), N rows, A actions.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def smoothed_action(
    action: Float[Tensor, "N A"],
    noise: Float[Tensor, "N A"],
    *,
    deviation: float,
    clip: float,
) -> Float[Tensor, "N A"]:
    """Return the target policy's action with clipped noise, held to [-1, 1] (section 5.3).

    `noise` is standard normal; `deviation` and `clip` are in units of the action.
    """
    return (action + (deviation * noise).clamp(-clip, clip)).clamp(-1.0, 1.0)


def pessimistic_value(value: Float[Tensor, "C N"]) -> Float[Tensor, " N"]:
    """Return min_c Q_c(s, a) (equation 10)."""
    return value.amin(0)


def actor_rows(value: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return -Q_1(s, pi(s)) (algorithm 1): the first critic alone leads the actor."""
    return -value
