"""GradNorm: weights of the tasks' losses, learned so that tasks train at alike rates.

Axes: M tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
"""Adam's."""
LEAST_WEIGHT = 1e-3
"""A weight below zero would climb a task's loss; Chen et al. leave open what keeps it above."""


class GradNormState(NamedTuple):
    """Weights, what Adam remembers of each, and each task's first loss."""

    weights: Float64[Tensor, " M"]
    first: Float64[Tensor, " M"]
    second: Float64[Tensor, " M"]
    steps: Float64[Tensor, " M"]
    initial: Float64[Tensor, " M"]
    """NaN before a task's first update."""


def first_state(tasks: int) -> GradNormState:
    """Return the state before any update: all weights 1."""
    zeros = torch.zeros(tasks, dtype=torch.float64)
    return GradNormState(
        torch.ones_like(zeros),
        zeros,
        zeros.clone(),
        zeros.clone(),
        torch.full_like(zeros, torch.nan),
    )


def weight_gradients(
    weights: Float64[Tensor, " M"],
    norms: Float64[Tensor, " M"],
    progress: Float64[Tensor, " M"],
    kept: Bool[Tensor, " M"],
    asymmetry: float,
) -> Float64[Tensor, " M"]:
    """Return the gradient of sum_i |w_i n_i - mean(w n) r_i^a| with the target held constant.

    `norms` are those of the unweighted gradients on the last shared layer, `progress` is
    L_i(t) / L_i(0), r_i that over its mean (Chen et al. 2018, equations 1 and 2). Means are over
    the tasks kept; the others' gradients are 0.
    """
    length = weights * norms
    count = kept.sum().clamp(min=1)
    mean_length = torch.where(kept, length, 0.0).sum() / count
    mean_progress = torch.where(kept, progress, 0.0).sum() / count
    rate = torch.where(kept, progress, 1.0) / mean_progress
    target = mean_length * rate**asymmetry
    return torch.where(kept, torch.sign(length - target) * norms, 0.0)


def gradnorm_step(
    state: GradNormState,
    *,
    norms: Float64[Tensor, " M"],
    losses: Float64[Tensor, " M"],
    kept: Bool[Tensor, " M"],
    asymmetry: float,
    learning_rate: float,
) -> GradNormState:
    """Return the state after one step of Adam on the weights, whose sum then is M again.

    A task that is not kept steps nowhere and remembers as before. Losses must be above 0: only
    critics' are.
    """
    initial = torch.where(kept & state.initial.isnan(), losses, state.initial)
    # A loss that starts at 0 has nothing left to train: its rate is then 1.
    progress = torch.where(initial > 0.0, losses / initial, 1.0)
    gradient = weight_gradients(state.weights, norms, progress, kept, asymmetry)
    steps = state.steps + kept
    first = torch.where(
        kept, FIRST_DECAY * state.first + (1.0 - FIRST_DECAY) * gradient, state.first
    )
    second = torch.where(
        kept, SECOND_DECAY * state.second + (1.0 - SECOND_DECAY) * gradient**2, state.second
    )
    counted = steps.clamp(min=1.0)
    mean = first / (1.0 - FIRST_DECAY**counted)
    root = (second / (1.0 - SECOND_DECAY**counted)).sqrt()
    moved = state.weights - torch.where(kept, learning_rate * mean / (root + EPSILON), 0.0)
    moved = moved.clamp(min=LEAST_WEIGHT)
    return GradNormState(moved * (moved.shape[0] / moved.sum()), first, second, steps, initial)
