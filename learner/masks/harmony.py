"""How well tasks get along in shared weights: sign agreement with its null value, and overlap.

Axes: M tasks, C copies of a network, P maskable weights of a copy, K parameters of a layout.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from repertory.masks import MaskLayout


class Harmony(NamedTuple):
    """Mean sign agreement in [-1, 1]; NaN where nothing could be compared."""

    whole: Float[Tensor, ""]
    layers: Float[Tensor, " K"]


class Signs(NamedTuple):
    """Products of signs of each weight, added up over tasks and copies."""

    products: Float64[Tensor, " P"]
    compared: Float64[Tensor, " P"]
    """How many of them were not zero."""


def signs_of(
    gradients: Float[Tensor, "M C P"],
    *,
    owned: Bool[Tensor, "M P"] | None = None,
    leave_one_out: bool = False,
) -> Signs:
    """Return how gradients agree in sign with their mean, which any part of the weights can tell.

    With `leave_one_out` with the mean of the others; with masks, only what a task owns.
    """
    # float64: what others add up to must not be lost in the difference.
    total = gradients.sum(0, dtype=torch.float64)
    products = torch.zeros(gradients.shape[2], dtype=torch.float64, device=gradients.device)
    compared = torch.zeros_like(products)
    for task, gradient in enumerate(gradients):
        others = total - gradient if leave_one_out else total
        signs = gradient.sign() * others.sign()
        if owned is not None:
            signs = signs * owned[task]
        products += signs.sum(0)
        compared += signs.abs().sum(0)
    return Signs(products, compared)


def harmony_of(signs: Signs, layout: MaskLayout) -> Harmony:
    """Return the mean over tasks and weights of sign(gradient) sign(mean gradient).

    As Hu et al. 2024 define it the mean contains the task's own gradient, so that independent
    gradients score `null_value`; against the mean of the others they score 0. Where either is zero
    nothing is compared.
    """
    products, compared = signs
    sizes = list(layout.sizes)
    parts = zip(torch.split(products, sizes), torch.split(compared, sizes), strict=True)
    layers = torch.stack([part.sum() / count.sum() for part, count in parts])
    return Harmony((products.sum() / compared.sum()).float(), layers.float())


def null_value(tasks: int) -> float:
    """Return the average harmony score of independent gradients: (2 / pi) asin(1 / sqrt(N)).

    One of N independent normals and their mean correlate by 1 / sqrt(N).
    """
    return 2.0 / math.pi * math.asin(1.0 / math.sqrt(tasks))


def null_of_masks(owned: Bool[Tensor, "M P"]) -> float:
    """Return the score of independent gradients under masks, where each weight has its own N."""
    owners = owned.sum(0)
    counts = torch.bincount(owners, minlength=owned.shape[0] + 1).tolist()
    total = sum(n * count * null_value(n) for n, count in enumerate(counts) if n)
    pairs = sum(n * count for n, count in enumerate(counts))
    return total / pairs if pairs else math.nan


def overlap(owned: Bool[Tensor, "M P"]) -> Float[Tensor, "M M"]:
    """Return the Jaccard index of what each two tasks do not own; 1 where both own everything.

    Independent masks of sparsity S have S / (2 - S). It rises where updates take the same weights
    from all tasks, which makes masks useless.
    """
    rows = []
    outside = ~owned
    for mask in outside:
        both = (outside & mask).sum(1).float()
        either = (outside | mask).sum(1).float()
        rows.append(torch.where(either > 0, both / either.clamp(min=1.0), 1.0))
    return torch.stack(rows)


def mean_between(matrix: Float[Tensor, "M M"]) -> Float[Tensor, ""]:
    """Return the mean over pairs of different tasks; NaN for one task."""
    tasks = matrix.shape[0]
    return (matrix.sum() - matrix.diagonal().sum()) / (tasks * (tasks - 1))


def flips(before: Bool[Tensor, "M P"], after: Bool[Tensor, "M P"]) -> Int[Tensor, " M"]:
    """Return how many bits of each task's mask changed, what left and what entered."""
    return (before ^ after).sum(1)


def densities(owned: Bool[Tensor, "M P"], layout: MaskLayout) -> Float[Tensor, "M K"]:
    """Return the share of each parameter that each task owns."""
    parts = torch.split(owned, list(layout.sizes), 1)
    return torch.stack([part.float().mean(1) for part in parts], 1)
