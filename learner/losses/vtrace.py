"""V-trace targets and advantages: off-policy returns along whole trajectories.

Axes: T steps, T1 = T + 1 values (the last bootstraps), B columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOG_RATIO_CEILING = 20.0
"""Ratios beyond e^20 are taken for e^20: every clip in use lies far below, and infinities stay
out of the metrics."""


class VTrace(NamedTuple):
    """What V-trace says of every step; none of it carries a gradient."""

    target: Float[Tensor, "T B"]
    """v_t, what the value should be; the value itself where a step is not valid."""
    advantage: Float[Tensor, "T B"]
    """Already weighted with the policy-gradient rho; 0 where a step is not valid."""
    ratio: Float[Tensor, "T B"]
    """pi / mu, unclipped."""
    rho: Float[Tensor, "T B"]
    """The ratio clipped at rho_clip."""


def discounts(terminated: Bool[Tensor, "T B"], discount: float) -> Float[Tensor, "T B"]:
    """Return gamma where the return goes on and 0 where it ends; a time limit does not end it."""
    return discount * (~terminated).to(torch.float32)


def vtrace(
    *,
    log_probability: Float[Tensor, "T B"],
    behaviour_log_probability: Float[Tensor, "T B"],
    reward: Float[Tensor, "T B"],
    discount: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    value: Float[Tensor, "T1 B"],
    rho_clip: float,
    c_clip: float,
    policy_gradient_rho_clip: float,
    trace_lambda: float,
) -> VTrace:
    """Return targets and advantages (Espeholt et al. 2018, equation 1 and remarks 1 and 2).

    A step that is not valid (the one that resets) has no temporal difference and carries nothing
    back. A step cut by a time limit is followed by one, so that its return is bootstrapped from
    the value of the episode's own last observation. Whatever stands in the rewards and behaviour
    log-probabilities of such steps is not looked at.
    """
    value = value.detach()
    log_ratio = log_probability.detach() - behaviour_log_probability
    log_ratio = torch.where(valid, log_ratio, 0.0).clamp(max=LOG_RATIO_CEILING)
    reward = torch.where(valid, reward, 0.0)
    ratio = log_ratio.exp()
    rho = ratio.clamp(max=rho_clip)
    carried = torch.where(valid, discount * trace_lambda * ratio.clamp(max=c_clip), 0.0)
    difference = torch.where(valid, rho * (reward + discount * value[1:] - value[:-1]), 0.0)

    # v_t - V(x_t), from the last step back.
    correction = torch.zeros_like(value[0])
    corrections = [correction]
    for step in range(reward.shape[0] - 1, -1, -1):
        correction = difference[step] + carried[step] * correction
        corrections.append(correction)
    target = value + torch.stack(corrections[::-1])

    quality = reward + discount * target[1:]
    advantage = ratio.clamp(max=policy_gradient_rho_clip) * (quality - value[:-1])
    return VTrace(target[:-1], torch.where(valid, advantage, 0.0), ratio, rho)
