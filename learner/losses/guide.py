"""Values, targets and loss rows of guide policies, which choose among candidates' policies.

Axes: C critics (two for twins), K steps of a window, W windows, J candidates.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class GuidePolicyRows(NamedTuple):
    """What the guide's policy is trained by, per window."""

    loss: Float[Tensor, " W"]
    entropy: Float[Tensor, " W"]
    """In nats; carries a gradient."""


def guide_value(
    *,
    logits: Float[Tensor, "W J"],
    quality: Float[Tensor, "C W J"],
    temperature: Float[Tensor, " W"],
) -> Float[Tensor, " W"]:
    """Return V^g(s) = sum_j pi(j|s) (min_c Q_c(s, j) - alpha log pi(j|s)).

    The expectation in He et al. 2024, equations 5 and 17, is exact; pi is never masked here.
    """
    log_policy = torch.log_softmax(logits, -1)
    return (log_policy.exp() * (quality.amin(0) - temperature.unsqueeze(-1) * log_policy)).sum(-1)


def comparable_value(
    *, logits: Float[Tensor, "W J"], quality: Float[Tensor, "C W J"]
) -> Float[Tensor, " W"]:
    """Return sum_j pi(j|s) min_c Q_c(s, j): no entropy of the guide (He et al. 2024, eq. 13)."""
    return (torch.softmax(logits, -1) * quality.amin(0)).sum(-1)


def double_dqn_value(
    *, online: Float[Tensor, "W J"], target: Float[Tensor, "W J"]
) -> Float[Tensor, " W"]:
    """Return Q'(s, argmax_j Q(s, j)), chosen online, valued by the target (van Hasselt 2016)."""
    return target.gather(-1, online.argmax(-1, keepdim=True)).squeeze(-1)


def soft_rewards(
    *,
    reward: Float[Tensor, "K W"],
    log_probability: Float[Tensor, "K W"],
    temperature: Float[Tensor, " W"],
) -> Float[Tensor, "K W"]:
    """Return r_k - alpha log pi(a'_k|s_k): the rewards of He et al. 2024, equation 13.

    a'_k is a fresh action of the task's own policy at the replayed state, alpha that policy's
    temperature, so that values are in the units of the control critics.
    """
    return reward - temperature * log_probability


def critic_rows(
    *,
    quality: Float[Tensor, "C W J"],
    chosen: Int[Tensor, " W"],
    target: Float[Tensor, " W"],
) -> Float[Tensor, " W"]:
    """Return sum_c (Q_c(s, j) - y)^2 for the candidates `chosen` (He et al. 2024, eq. 17)."""
    index = chosen.long().unsqueeze(-1).expand(quality.shape[0], -1, 1)
    return (quality.gather(-1, index).squeeze(-1) - target.detach()).square().sum(0)


def policy_rows(
    *,
    logits: Float[Tensor, "W J"],
    quality: Float[Tensor, "C W J"],
    temperature: Float[Tensor, " W"],
) -> GuidePolicyRows:
    """Return sum_j pi(j|s) (alpha log pi(j|s) - min_c Q_c(s, j)) (He et al. 2024, eq. 18)."""
    log_policy = torch.log_softmax(logits, -1)
    policy = log_policy.exp()
    cost = temperature.detach().unsqueeze(-1) * log_policy - quality.detach().amin(0)
    return GuidePolicyRows((policy * cost).sum(-1), -(policy * log_policy).sum(-1))


def temperature_rows(
    *,
    log_temperature: Float[Tensor, " W"],
    entropy: Float[Tensor, " W"],
    target_entropy: float,
) -> Float[Tensor, " W"]:
    """Return alpha (H[pi] - target), pi fixed: entropy above the target lowers alpha.

    He et al. 2024, section 4.1; the gradient in log alpha carries the factor alpha, as in the
    released code.
    """
    return log_temperature.exp() * (entropy.detach() - target_entropy)


def target_entropy(candidates: int, scale: float) -> float:
    """Return scale * ln J nats; the released code of He et al. 2024 takes 0.98."""
    return scale * math.log(candidates)
