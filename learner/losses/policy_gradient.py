"""Rows of the actor-critic loss, one per step, and the one place that reduces rows to a loss.

Axes: T steps, B columns, A actions.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Categorical(NamedTuple):
    """A policy at every step."""

    log_probability: Float[Tensor, "T B"]
    """Of the action taken."""
    entropy: Float[Tensor, "T B"]
    """In nats."""


class ActorCriticRows(NamedTuple):
    """Loss rows; all 0 where a step is not valid."""

    policy: Float[Tensor, "T B"]
    """-advantage * log pi(a)."""
    value: Float[Tensor, "T B"]
    """1/2 (target - value)^2."""
    entropy: Float[Tensor, "T B"]
    """-H(pi)."""


def categorical(logits: Float[Tensor, "T B A"], action: Int[Tensor, "T B"]) -> Categorical:
    """Return log-probability of the actions and entropy of softmax(logits)."""
    log_policy = F.log_softmax(logits, -1)
    chosen = log_policy.gather(-1, action.long().unsqueeze(-1)).squeeze(-1)
    return Categorical(chosen, -(log_policy.exp() * log_policy).sum(-1))


def actor_critic_rows(
    *,
    log_probability: Float[Tensor, "T B"],
    entropy: Float[Tensor, "T B"],
    advantage: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    target: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
) -> ActorCriticRows:
    """Return policy-gradient, value and entropy rows (Espeholt et al. 2018, section 4.2)."""
    return ActorCriticRows(
        policy=torch.where(valid, -advantage.detach() * log_probability, 0.0),
        value=value_rows(value=value, target=target, valid=valid),
        entropy=torch.where(valid, -entropy, 0.0),
    )


def value_rows(
    *,
    value: Float[Tensor, "T B"],
    target: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
) -> Float[Tensor, "T B"]:
    """Return 1/2 (target - value)^2."""
    return torch.where(valid, 0.5 * (target.detach() - value).square(), 0.0)


def reduced(
    rows: ActorCriticRows,
    valid: Bool[Tensor, "T B"],
    *,
    value_cost: float,
    entropy_cost: float,
    reduction: Literal["sum", "mean"],
    steps: Int[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Return the loss: the weighted rows, summed, or averaged over the valid steps.

    Where several learners have a part of the batch each, `steps` are the valid ones of all parts:
    the losses of the parts then add up to that of the whole.
    """
    joined = rows.policy + value_cost * rows.value + entropy_cost * rows.entropy
    if reduction == "sum":
        return joined.sum()
    return joined.sum() / (valid.sum() if steps is None else steps).clamp(min=1)
