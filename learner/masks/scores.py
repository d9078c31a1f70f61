"""What each weight is worth to a task in a shared network: agreement, importance, harmony.

Scores are elementwise; a mask's bit stands for one weight of every copy, so that its score is the
sum over copies.

Axes: M tasks, C copies of a network (two for twin critics), P maskable weights of a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Variant = Literal["random", "agreement", "fisher", "magnitude"]
"""R, agreement only, F and M of Hu et al. 2024."""


def unit_norm(gradient: Float[Tensor, "C P"]) -> Float[Tensor, "C P"]:
    """Return one task's gradient scaled to norm 1; one that is zero stays zero.

    Otherwise the task with the largest rewards decides everybody's masks. Scaled by its largest
    entry first: squares of entries below 1e-23 are zero in float32.
    """
    largest = gradient.abs().amax()
    scaled = gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
    norm = torch.linalg.vector_norm(scaled)
    return scaled / torch.where(norm > 0, norm, torch.ones_like(norm))


def mean_gradient(gradients: Iterable[Float[Tensor, "C P"]]) -> Float[Tensor, "C P"]:
    """Return the mean over tasks, summed in float64 so that their order does not matter."""
    total, tasks = None, 0
    for gradient in gradients:
        wide = gradient.to(torch.float64)
        total = wide if total is None else total + wide
        tasks += 1
    if total is None:
        raise ValueError("a mean over tasks needs at least one task's gradient")
    return (total / tasks).to(torch.float32)


def agreement(gradient: Float[Tensor, "C P"], mean: Float[Tensor, "C P"]) -> Float[Tensor, " P"]:
    """Return gradient * mean (Hu et al. 2024): positive where the task pulls with the others."""
    return (gradient * mean).sum(0)


def fisher(masked: Float[Tensor, "C P"]) -> Float[Tensor, " P"]:
    """Return the squared masked gradient, the diagonal of the empirical Fisher information.

    Of a gradient at unit norm: then the loss and its logarithm, which Hu et al. 2024 write, give
    the same, since the gradients of the two differ by a factor.
    """
    return masked.square().sum(0)


def magnitude(parameters: Float[Tensor, "C P"], owned: Bool[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Return |theta * mask|."""
    return parameters.abs().sum(0) * owned


def importance(
    variant: Variant,
    *,
    masked: Float[Tensor, "C P"],
    parameters: Float[Tensor, "C P"],
    owned: Bool[Tensor, " P"],
    released: bool = False,
) -> Float[Tensor, " P"] | None:
    """Return a variant's importance of each weight, None where it has none.

    Magnitudes are scaled to add up to 1, as the Fisher information of a gradient at unit norm
    does, so that one importance weight means the same for both. The released code does not: there
    magnitude (1e-2) drowns agreement (1e-8).
    """
    match variant:
        case "fisher":
            return fisher(masked)
        case "magnitude":
            sizes = magnitude(parameters, owned)
            if released:
                return sizes
            total = sizes.sum()
            return sizes / torch.where(total > 0, total, torch.ones_like(total))
        case _:
            return None


def harmony(
    agreement: Float[Tensor, " P"],
    importance: Float[Tensor, " P"] | None,
    owned: Bool[Tensor, " P"],
    *,
    importance_weight: float,
    agreement_weight: float = 1.0,
) -> Float[Tensor, " P"]:
    """Return agreement + lambda importance of owned weights, infinity elsewhere.

    The released code weighs the agreement by 10 instead and the importance by 1.
    """
    score = agreement_weight * agreement
    if importance is not None:
        score = score + importance_weight * importance
    return torch.where(owned, score, torch.inf)


def recovery(
    full: Float[Tensor, "C P"], mean: Float[Tensor, "C P"], owned: Bool[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """Return the agreement of the unmasked gradient outside the mask, minus infinity inside.

    The masked gradient is zero outside: only the whole network's says who would fit in.
    """
    return torch.where(owned, -torch.inf, agreement(full, mean))
