"""Log-probabilities of a Gaussian squashed by tanh (Haarnoja et al. 2018, appendix C).

Axes: rows of any number of axes, which may broadcast against each other; A actions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ACTION_LIMIT = 0.999999
"""Actions at hand are cut to this before tanh is undone: at +-1 nothing undoes it."""


class Drawn(NamedTuple):
    """Actions of a policy at its own draws, with their log-densities."""

    action: Float[Tensor, "*rows A"]
    """In (-1, 1), or at its ends where tanh rounds to them."""
    log_probability: Float[Tensor, "*rows"]


def tanh_gaussian_log_probability(
    mean: Float[Tensor, "*#rows A"],
    log_deviation: Float[Tensor, "*#rows A"],
    pre_tanh: Float[Tensor, "*#rows A"],
) -> Float[Tensor, "*_"]:
    """Return log pi(tanh(z)) with z `pre_tanh`, summed over the actions.

    log(1 - tanh(z)^2) is taken as 2 (log 2 - z - softplus(-2 z)), which neither overflows nor
    loses its digits at large |z|.
    """
    standard = (pre_tanh - mean) * torch.exp(-log_deviation)
    log_density = -0.5 * standard.square() - log_deviation - 0.5 * math.log(2.0 * math.pi)
    log_slope = 2.0 * (math.log(2.0) - pre_tanh - F.softplus(-2.0 * pre_tanh))
    return (log_density - log_slope).sum(-1)


def tanh_gaussian_log_probability_of_action(
    mean: Float[Tensor, "*#rows A"],
    log_deviation: Float[Tensor, "*#rows A"],
    action: Float[Tensor, "*#rows A"],
) -> Float[Tensor, "*_"]:
    """Return log pi(a) of actions at hand, replayed ones for instance, cut to +-0.999999."""
    pre_tanh = torch.atanh(action.clamp(-ACTION_LIMIT, ACTION_LIMIT))
    return tanh_gaussian_log_probability(mean, log_deviation, pre_tanh)


def draw(
    mean: Float[Tensor, "*#rows A"],
    log_deviation: Float[Tensor, "*#rows A"],
    noise: Float[Tensor, "*#rows A"],
) -> Drawn:
    """Return the actions that standard normal `noise` draws, differentiable in the policy.

    `noise` may have leading axes more than the policy's rows.
    """
    pre_tanh = mean + torch.exp(log_deviation) * noise
    return Drawn(torch.tanh(pre_tanh), tanh_gaussian_log_probability(mean, log_deviation, pre_tanh))
