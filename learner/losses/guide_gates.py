"""Which tasks the guide may act for: the guide-block gate.

Axes: M tasks.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def blocked_by_temperature(log_temperature: Float[Tensor, " M"]) -> Bool[Tensor, " M"]:
    """Say whose log temperature is strictly above the mean of the logs (He et al. 2024, eq. 14).

    A low temperature means a hard task, which is guided.
    """
    # In float32 the mean of equal numbers may round to below them, and would block everyone.
    exact = log_temperature.double()
    return exact > exact.mean()


def blocked_by_success(success_rate: Float[Tensor, " M"], threshold: float) -> Bool[Tensor, " M"]:
    """Say who succeeds more often than `threshold`; who is not known to (NaN) is guided."""
    return torch.where(success_rate.isnan(), 0.0, success_rate) > threshold
