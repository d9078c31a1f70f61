"""Random masks of a given sparsity, the same number of owned weights for every task.

Axes: M tasks, P maskable weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool

from repertory.errors import BadInput
from repertory.masks import MaskLayout


def initial_masks(
    layout: MaskLayout,
    *,
    tasks: int,
    sparsity: float,
    kind: Literal["erk", "uniform"],
    generator: np.random.Generator,
) -> Bool[np.ndarray, "M P"]:
    """Return an independent random mask for every task, each with round((1 - sparsity) P) ones.

    Also each parameter has the same number of ones for every task: what `owned_counts` says.
    """
    counts = owned_counts(layout.shapes, sparsity=sparsity, kind=kind)
    masks = np.zeros((tasks, layout.total), np.bool_)
    for mask in masks:
        for offset, size, count in zip(layout.offsets, layout.sizes, counts, strict=True):
            mask[offset + generator.permutation(size)[:count]] = True
    return masks


def owned_counts(
    shapes: Sequence[tuple[int, ...]], *, sparsity: float, kind: Literal["erk", "uniform"]
) -> tuple[int, ...]:
    """Return how many weights of each parameter a task owns; they add up to round((1 - S) P).

    Densities times sizes are rounded to integers by largest remainder, ties to the first.
    """
    if not 0.0 <= sparsity < 1.0:
        raise BadInput(f"masks need a sparsity of at least 0 and below 1, got {sparsity}")
    sizes = [math.prod(shape) for shape in shapes]
    wanted = round((1.0 - sparsity) * sum(sizes))
    density = wanted / sum(sizes)
    match kind:
        case "erk":
            densities = erk_densities(shapes, density)
        case "uniform":
            densities = [density] * len(sizes)
    exact = [share * size for share, size in zip(densities, sizes, strict=True)]
    # What is whole but for the last bits of a float is whole.
    counts = [math.floor(number + 1e-6) for number in exact]
    open_positions = [i for i, count in enumerate(counts) if count < sizes[i]]
    open_positions.sort(key=lambda i: counts[i] - exact[i])
    for i in open_positions[: wanted - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


def erk_densities(shapes: Sequence[tuple[int, ...]], density: float) -> list[float]:
    """Return Erdos-Renyi-Kernel densities of power 1 that own `density` of all weights.

    Each is epsilon (sum of dimensions) / (product of dimensions), Evci et al. 2020; where that
    exceeds 1 the parameter is dense, and epsilon is computed anew from what is left.
    """
    sizes = [math.prod(shape) for shape in shapes]
    dense: set[int] = set()
    while True:
        budget = density * sum(sizes) - sum(sizes[i] for i in dense)
        dimensions = sum(sum(shape) for i, shape in enumerate(shapes) if i not in dense)
        epsilon = budget / dimensions if dimensions else 0.0
        over = {
            i
            for i, shape in enumerate(shapes)
            if i not in dense and epsilon * sum(shape) > sizes[i]
        }
        if not over:
            return [
                1.0 if i in dense else epsilon * sum(shape) / sizes[i]
                for i, shape in enumerate(shapes)
            ]
        dense |= over
