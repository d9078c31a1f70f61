"""Whose policy most likely played a window: hindsight off-policy correction.

Axes: R steps, K steps of a window at most, W windows, J candidates, A actions.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repertory.networks.gaussian import ACTION_LIMIT


def undo_tanh(action: Float[Tensor, "*rows A"]) -> Float[Tensor, "*rows A"]:
    """Return what tanh made these actions of, after cutting them to +-0.999999."""
    return torch.atanh(action.clamp(-ACTION_LIMIT, ACTION_LIMIT))


def gaussian_scores(
    mean: Float[Tensor, "R J A"],
    log_deviation: Float[Tensor, "R J A"],
    pre_tanh: Float[Tensor, "R A"],
) -> Float[Tensor, "R J"]:
    """Return log pi_j(a|s) but for what all candidates share.

    The slope of tanh and the constant of the Gaussian depend on the action alone, not on j, so no
    comparison between candidates needs them.
    """
    standard = (pre_tanh.unsqueeze(-2) - mean) * torch.exp(-log_deviation)
    return -(0.5 * standard.square() + log_deviation).sum(-1)


def distance_scores(
    candidate: Float[Tensor, "R J A"], action: Float[Tensor, "R A"]
) -> Float[Tensor, "R J"]:
    """Return -|a - pi_j(s)|^2: the order of log densities under one exploration Gaussian."""
    return -(action.unsqueeze(-2) - candidate).square().sum(-1)


def likeliest(scores: Float[Tensor, "K W J"], valid: Bool[Tensor, "K W"]) -> Int[Tensor, " W"]:
    """Return argmax_j of the sums over a window's valid steps (He et al. 2024, equation 9).

    Ties go to the lowest index; the scores of other steps are not looked at.
    """
    return torch.where(valid.unsqueeze(-1), scores, 0.0).sum(0).argmax(-1)
