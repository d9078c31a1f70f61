"""One update of masks: each task gives up its least useful weights and takes on the best outsiders.

Axes: M tasks, C copies of a network, P maskable weights of a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from learner.masks.gradients import TaskGradients
from learner.masks.scores import (
    Variant,
    agreement,
    harmony,
    importance,
    mean_gradient,
    recovery,
    unit_norm,
)
from repertory.errors import BadInput, NumericalFailure


class Scoring(NamedTuple):
    """How weights are scored."""

    variant: Variant
    importance_weight: float
    """lambda."""
    released: bool = False
    """As the released code: agreement times 10, importance as it is, and outsiders scored by the
    masked gradient, which is zero for them.
    """


RELEASED_AGREEMENT_WEIGHT = 10.0
"""gamma of the released code, on the agreement instead of lambda on the importance."""


def lowest(score: Float[Tensor, " P"], among: Bool[Tensor, " P"], count: int) -> Bool[Tensor, " P"]:
    """Return where the `count` lowest scores of `among` are; ties go to the lowest index.

    By the count-th value and what equals it: topk breaks ties as it likes.
    """
    if count == 0:
        return torch.zeros_like(among)
    candidates = score[among]
    if count > candidates.shape[0]:
        raise ValueError(f"{count:,} of {candidates.shape[0]:,} positions were asked for")
    edge = candidates.kthvalue(count).values
    below = among & (score < edge)
    equal = (among & (score == edge)).nonzero().squeeze(-1)
    chosen = below.clone()
    chosen[equal[: count - int(below.sum())]] = True
    return chosen


def updated_mask(
    owned: Bool[Tensor, " P"],
    gradients: TaskGradients,
    mean: Float[Tensor, "C P"],
    parameters: Float[Tensor, "C P"],
    *,
    changes: int,
    scoring: Scoring,
) -> Bool[Tensor, " P"]:
    """Return one task's mask after it gave up `changes` weights and took on as many.

    Both are chosen by the mask as it was, so that they are disjoint. Gradients and their mean over
    tasks are at unit norm. The random variant keeps its mask.
    """
    if changes == 0 or scoring.variant == "random":
        return owned.clone()
    leaves = harmony(
        agreement(gradients.masked, mean),
        importance(
            scoring.variant,
            masked=gradients.masked,
            parameters=parameters,
            owned=owned,
            released=scoring.released,
        ),
        owned,
        importance_weight=1.0 if scoring.released else scoring.importance_weight,
        agreement_weight=RELEASED_AGREEMENT_WEIGHT if scoring.released else 1.0,
    )
    enters = recovery(gradients.masked if scoring.released else gradients.full, mean, owned)
    return (owned & ~lowest(leaves, owned, changes)) | lowest(-enters, ~owned, changes)


def updated_masks(
    owned: Bool[Tensor, "M P"],
    gradients_of: Callable[[int], TaskGradients],
    parameters: Float[Tensor, "C P"],
    *,
    changes: int,
    scoring: Scoring,
) -> Bool[Tensor, "M P"]:
    """Return all masks after one update, asking for each task's gradients twice.

    Once for the mean of masked gradients, once for scores, and one task's at a time: memory does
    not grow with tasks where `gradients_of` computes them, and it is a look-up where all fit.

    Raises:
        BadInput: more changes than a mask has owned weights, or outsiders, to exchange.
        NumericalFailure: a gradient is not finite; no mask has changed.
    """
    if scoring.variant == "random" or changes == 0 or bool(owned.all()):
        # At sparsity 0 there is no outsider to exchange anything for.
        return owned.clone()
    check_changes(owned, changes)
    tasks = owned.shape[0]
    mean = mean_gradient(unit_norm(gradients_of(task).masked) for task in range(tasks))
    if not bool(torch.isfinite(mean).all()):
        raise NumericalFailure("masks stay as they are: a task's masked gradient is not finite")
    if not bool(mean.any()):
        # Of a frozen network, or of losses that left every task out: nothing to go by.
        return owned.clone()
    updated = []
    for task in range(tasks):
        gradients = TaskGradients(*(unit_norm(part) for part in gradients_of(task)))
        if not bool(torch.isfinite(gradients.full).all()):
            raise NumericalFailure(
                f"masks stay as they are: task {task}'s gradient of the whole network is not finite"
            )
        if not any(bool(part.any()) for part in gradients):
            # Left out of every scored batch: all its scores tie, and say nothing.
            updated.append(owned[task].clone())
            continue
        updated.append(
            updated_mask(owned[task], gradients, mean, parameters, changes=changes, scoring=scoring)
        )
    return torch.stack(updated)


def check_changes(owned: Bool[Tensor, "M P"], changes: int) -> None:
    """Refuse an update that exchanges more weights than some task owns, or does not own."""
    counts = owned.sum(1)
    inside, outside = int(counts.min()), owned.shape[1] - int(counts.max())
    if changes > min(inside, outside):
        raise BadInput(
            f"a mask update of {changes:,} weights is more than masks can give: each task owns "
            f"{inside:,} of {owned.shape[1]:,} and has {outside:,} to take on; lower alpha, or "
            "change the sparsity"
        )
