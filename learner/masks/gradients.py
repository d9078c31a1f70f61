"""One task's gradient as a vector over the maskable weights.

Axes: C copies of a network, P maskable weights of a copy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repertory.masks import MaskLayout
from repertory.networks.masks import flatten, maskable_parameters


class TaskGradients(NamedTuple):
    """One task's gradients with respect to the dense weights, over one or more scoring batches."""

    masked: Float[Tensor, "C P"]
    """Of the sub-network: zero where the task owns nothing."""
    full: Float[Tensor, "C P"]
    """Of the whole network on the same rows."""


def accumulated(total: TaskGradients | None, batch: TaskGradients) -> TaskGradients:
    """Return the sums over scoring batches, which have the mean's direction and so its scores.

    One batch's gradient says little: policy gradients are far noisier than those of imitation. Both
    must belong to one version of the masks.
    """
    if total is None:
        return batch
    return TaskGradients(*(a + b for a, b in zip(total, batch, strict=True)))


def task_gradient(
    loss: Float[Tensor, ""], network: nn.Module, layout: MaskLayout
) -> Float[Tensor, "C P"]:
    """Return the gradient of one task's loss with respect to the dense maskable weights.

    Of a loss through theta * mask it is the masked gradient, of one through theta the full one.
    The graph is consumed; `.grad` is left alone.
    """
    parameters = maskable_parameters(network, layout)
    # A frozen torso has none.
    moving = {name: each for name, each in parameters.items() if each.requires_grad}
    found = torch.autograd.grad(loss, list(moving.values()), allow_unused=True) if moving else ()
    gradients = dict(zip(moving, found, strict=True))
    named = {
        name: torch.zeros_like(parameter) if gradients.get(name) is None else gradients[name]
        for name, parameter in parameters.items()
    }
    return flatten(layout, named)
