"""One task's gradient as a vector over the maskable weights.

Axes: C copies of a network, P maskable weights of a copy.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repertory.masks import MaskLayout
from repertory.networks.masks import flatten, maskable_parameters


def task_gradient(
    loss: Float[Tensor, ""], network: nn.Module, layout: MaskLayout
) -> Float[Tensor, "C P"]:
    """Return the gradient of one task's loss with respect to the dense maskable weights.

    Of a loss through theta * mask it is the masked gradient, of one through theta the full one.
    The graph is consumed; `.grad` is left alone.
    """
    parameters = maskable_parameters(network, layout)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    named = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
    }
    return flatten(layout, named)
