"""Rows of the clipped surrogate loss.

Axes: T steps, B columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def clipped_policy_rows(
    *,
    ratio: Float[Tensor, "T B"],
    advantage: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    clip: float,
) -> Float[Tensor, "T B"]:
    """Return -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A) (Schulman et al. 2017, eq. 7)."""
    advantage = advantage.detach()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)
    return torch.where(valid, -surrogate, 0.0)


def normalised_advantages(
    advantage: Float[Tensor, "T B"], valid: Bool[Tensor, "T B"]
) -> Float[Tensor, "T B"]:
    """Return advantages of zero mean and unit variance over the valid steps."""
    count = valid.sum().clamp(min=1)
    mean = torch.where(valid, advantage, 0.0).sum() / count
    centred = torch.where(valid, advantage - mean, 0.0)
    return centred / ((centred.square().sum() / count).sqrt() + 1e-8)
