"""Rows of the soft actor-critic's losses, with a temperature per task (Haarnoja et al. 2018).

Axes: C critics (two for twins), N rows.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def soft_value(
    *,
    value: Float[Tensor, "C N"],
    log_probability: Float[Tensor, " N"],
    temperature: Float[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """Return min_c Q_c(s, a) - alpha log pi(a|s), a drawn from pi (He et al. 2024, equation 2)."""
    return value.amin(0) - temperature * log_probability


def actor_rows(
    *,
    value: Float[Tensor, "C N"],
    log_probability: Float[Tensor, " N"],
    temperature: Float[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """Return alpha log pi(a|s) - min_c Q_c(s, a), alpha fixed (He et al. 2024, equation 3)."""
    # Not amin: at a tie it shares the gradient out, min(dim) gives it to one critic.
    return temperature.detach() * log_probability - value.min(0).values


def temperature_rows(
    *,
    log_temperature: Float[Tensor, " N"],
    log_probability: Float[Tensor, " N"],
    target_entropy: float,
) -> Float[Tensor, " N"]:
    """Return -alpha (log pi(a|s) + H), alpha = exp(log alpha) (He et al. 2024, equation 4).

    The policy is fixed here. The gradient in log alpha carries the factor alpha.
    """
    return -log_temperature.exp() * (log_probability.detach() + target_entropy)
