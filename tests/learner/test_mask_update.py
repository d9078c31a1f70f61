"""Updates of masks against a loop over single weights, and what holds for all of them."""

from __future__ import annotations

import itertools
import math
import weakref

import pytest
import torch
from torch import Tensor

from learner.masks.gradients import TaskGradients, accumulated
from learner.masks.scores import Variant
from learner.masks.update import Scoring, updated_masks
from repertory.errors import BadInput, NumericalFailure

VARIANTS: tuple[Variant, ...] = ("agreement", "fisher", "magnitude")


def problem(
    *, tasks: int = 4, copies: int = 2, weights: int = 60, seed: int = 0, scale: float = 1.0
) -> tuple[Tensor, list[TaskGradients], Tensor]:
    """Return masks, gradients and parameters of a made-up network; task i's scale is 10^i."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(tasks, weights, generator=generator).argsort(1)
    owned = order < int(0.7 * weights)
    gradients = []
    for task in range(tasks):
        full = torch.randn(copies, weights, generator=generator) * scale * 10.0**task
        masked = torch.randn(copies, weights, generator=generator) * scale * 10.0**task
        gradients.append(TaskGradients(masked * owned[task], full))
    return owned, gradients, torch.randn(copies, weights, generator=generator)


def slow_update(
    owned: Tensor,
    gradients: list[TaskGradients],
    parameters: Tensor,
    *,
    changes: int,
    variant: str,
    weight: float,
) -> list[list[bool]]:
    """Update masks weight by weight with Python's numbers and sort."""
    tasks, (copies, count) = len(gradients), parameters.shape

    def scaled(gradient: Tensor) -> list[list[float]]:
        rows = gradient.to(torch.float64).tolist()
        norm = math.sqrt(sum(number**2 for row in rows for number in row)) or 1.0
        return [[number / norm for number in row] for row in rows]

    masked = [scaled(one.masked) for one in gradients]
    full = [scaled(one.full) for one in gradients]
    mean = [
        [sum(masked[i][c][j] for i in range(tasks)) / tasks for j in range(count)]
        for c in range(copies)
    ]
    results = []
    for i in range(tasks):
        inside = [j for j in range(count) if owned[i, j]]
        outside = [j for j in range(count) if not owned[i, j]]
        total = sum(abs(float(parameters[c, j])) for c in range(copies) for j in inside)
        useful, entering = {}, {}
        for j in inside:
            useful[j] = sum(masked[i][c][j] * mean[c][j] for c in range(copies))
            if variant == "fisher":
                useful[j] += weight * sum(masked[i][c][j] ** 2 for c in range(copies))
            if variant == "magnitude":
                useful[j] += weight * (
                    sum(abs(float(parameters[c, j])) for c in range(copies)) / total
                )
        for j in outside:
            entering[j] = sum(full[i][c][j] * mean[c][j] for c in range(copies))
        leave = sorted(inside, key=lambda j: (useful[j], j))[:changes]
        enter = sorted(outside, key=lambda j: (-entering[j], j))[:changes]
        row = owned[i].tolist()
        for j in leave:
            row[j] = False
        for j in enter:
            row[j] = True
        results.append(row)
    return results


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("changes", "weight"), [(1, 1.0), (7, 0.3), (18, 5.0)])
def test_an_update_is_a_loop_over_single_weights(
    variant: Variant, changes: int, weight: float
) -> None:
    owned, gradients, parameters = problem()
    scoring = Scoring(variant, importance_weight=weight)
    updated = updated_masks(
        owned, gradients.__getitem__, parameters, changes=changes, scoring=scoring
    )
    expected = slow_update(
        owned, gradients, parameters, changes=changes, variant=variant, weight=weight
    )
    assert updated.tolist() == expected
    assert (updated.sum(1) == owned.sum(1)).all()
    assert ((owned & ~updated).sum(1) == changes).all()
    assert ((~owned & updated).sum(1) == changes).all()


def test_variants_choose_differently() -> None:
    owned, gradients, parameters = problem()
    results = [
        updated_masks(
            owned,
            gradients.__getitem__,
            parameters,
            changes=7,
            scoring=Scoring(variant, importance_weight=3.0),
        )
        for variant in VARIANTS
    ]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(results, 2))


def test_by_hand_the_least_useful_leaves_and_the_best_outsider_by_unmasked_gradient_enters() -> (
    None
):
    owned = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.bool)
    first = TaskGradients(
        torch.tensor([[2.0, -3.0, 1.0, 0.0, 0.0, 0.0]]),
        torch.tensor([[2.0, -3.0, 1.0, -4.0, 1.0, 0.5]]),
    )
    second = TaskGradients(
        torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 2.0]]),
        torch.tensor([[1.0, 1.0, 3.0, 1.0, 1.0, 2.0]]),
    )
    updated = updated_masks(
        owned,
        [first, second].__getitem__,
        torch.ones(1, 6),
        changes=1,
        scoring=Scoring("agreement", importance_weight=1.0),
    )
    # Task 0's own agreement is g^2 / 2: weight 2 is the least; outside, -4 x 1 loses to 1 x 1 and
    # 0.5 x 2, equal in what they gain: the lower index. Task 1: of weights 3 and 4, alike, the
    # lower leaves; outside, 3 x 1 beats 1 x 2 and 1 x (-3).
    assert updated.int().tolist() == [[1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 1]]


def test_without_changes_and_in_the_random_variant_masks_stay() -> None:
    owned, gradients, parameters = problem()
    for variant, changes in (("fisher", 0), ("random", 5)):
        scoring = Scoring(variant, importance_weight=1.0)  # type: ignore[arg-type]
        updated = updated_masks(
            owned, gradients.__getitem__, parameters, changes=changes, scoring=scoring
        )
        assert torch.equal(updated, owned)
        assert updated.data_ptr() != owned.data_ptr()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_tasks_does_not_matter(variant: Variant) -> None:
    owned, gradients, parameters = problem(tasks=7)
    scoring = Scoring(variant, importance_weight=1.0)
    straight = updated_masks(owned, gradients.__getitem__, parameters, changes=9, scoring=scoring)
    order = [4, 0, 6, 2, 5, 1, 3]
    shuffled = updated_masks(
        owned[order], lambda i: gradients[order[i]], parameters, changes=9, scoring=scoring
    )
    assert torch.equal(shuffled, straight[order])


def test_one_tasks_gradients_at_a_time_are_held_and_each_is_asked_for_twice() -> None:
    owned, gradients, parameters = problem()
    asked: list[int] = []
    alive: list[weakref.ref[Tensor]] = []

    def compute(task: int) -> TaskGradients:
        assert not any(reference() is not None for reference in alive)
        asked.append(task)
        fresh = TaskGradients(*(part.clone() for part in gradients[task]))
        alive.extend(weakref.ref(part) for part in fresh)
        return fresh

    scoring = Scoring("fisher", importance_weight=1.0)
    updated = updated_masks(owned, compute, parameters, changes=5, scoring=scoring)
    assert asked == [0, 1, 2, 3, 0, 1, 2, 3]
    kept = updated_masks(owned, gradients.__getitem__, parameters, changes=5, scoring=scoring)
    assert torch.equal(updated, kept)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_tasks_reward_scale_does_not_matter(variant: Variant) -> None:
    owned, gradients, parameters = problem()
    scoring = Scoring(variant, importance_weight=1.0)
    # Powers of two scale floats exactly, however small: 2^-100 squared is zero in float32.
    scaled = [
        TaskGradients(one.masked * factor, one.full * factor)
        for one, factor in zip(gradients, (2.0**10, 2.0**-100, 1.0, 2.0**60), strict=True)
    ]
    assert torch.equal(
        updated_masks(owned, gradients.__getitem__, parameters, changes=9, scoring=scoring),
        updated_masks(owned, scaled.__getitem__, parameters, changes=9, scoring=scoring),
    )


def test_arguments_are_never_written_to() -> None:
    owned, gradients, parameters = problem()
    tensors = [owned, parameters, *(part for one in gradients for part in one)]
    before = [tensor.clone() for tensor in tensors]
    for variant in VARIANTS:
        updated_masks(
            owned,
            gradients.__getitem__,
            parameters,
            changes=5,
            scoring=Scoring(variant, importance_weight=1.0),
        )
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_the_released_code_is_blind_to_outsiders_and_weighs_agreement_by_ten() -> None:
    owned, gradients, parameters = problem()
    scoring = Scoring("fisher", importance_weight=77.0, released=True)
    updated = updated_masks(owned, gradients.__getitem__, parameters, changes=4, scoring=scoring)
    for task in range(4):
        # Its masked gradient is zero outside the mask: all outsiders tie.
        first = (~owned[task]).nonzero().flatten()[:4]
        assert (~owned[task] & updated[task]).nonzero().flatten().tolist() == first.tolist()
    same = updated_masks(
        owned,
        gradients.__getitem__,
        parameters,
        changes=4,
        scoring=Scoring("fisher", importance_weight=0.1),
    )
    assert torch.equal(owned & ~updated, owned & ~same)


def test_more_changes_than_masks_can_give_are_refused_in_a_sentence() -> None:
    owned, gradients, parameters = problem()
    scoring = Scoring("fisher", importance_weight=1.0)
    updated_masks(owned, gradients.__getitem__, parameters, changes=18, scoring=scoring)
    with pytest.raises(BadInput, match="each task owns 42 of 60 and has 18 to take on"):
        updated_masks(owned, gradients.__getitem__, parameters, changes=19, scoring=scoring)


@pytest.mark.parametrize("part", [0, 1])
def test_gradients_that_are_not_finite_change_no_mask(part: int) -> None:
    owned, gradients, parameters = problem()
    broken = gradients[2][part].clone()
    broken[0, int(owned[2].nonzero()[0])] = math.nan
    gradients[2] = gradients[2]._replace(**{TaskGradients._fields[part]: broken})
    with pytest.raises(NumericalFailure, match="masks stay as they are"):
        updated_masks(
            owned,
            gradients.__getitem__,
            parameters,
            changes=3,
            scoring=Scoring("agreement", importance_weight=1.0),
        )


def test_batches_add_up_and_scores_are_those_of_their_mean() -> None:
    owned, first, parameters = problem()
    _, second, _ = problem(seed=1)
    second = [TaskGradients(one.masked * owned[task], one.full) for task, one in enumerate(second)]
    total = [accumulated(accumulated(None, a), b) for a, b in zip(first, second, strict=True)]
    mean = [
        TaskGradients((a.masked + b.masked) / 2, (a.full + b.full) / 2)
        for a, b in zip(first, second, strict=True)
    ]
    scoring = Scoring("fisher", importance_weight=1.0)
    results = [
        updated_masks(owned, of.__getitem__, parameters, changes=9, scoring=scoring)
        for of in (total, mean, first)
    ]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_masks_of_sparsity_zero_have_nothing_to_exchange_and_stay() -> None:
    _, gradients, parameters = problem()
    everything = torch.ones(4, 60, dtype=torch.bool)
    scoring = Scoring("fisher", importance_weight=1.0)
    updated = updated_masks(
        everything, gradients.__getitem__, parameters, changes=9, scoring=scoring
    )
    assert updated.all()


def test_gradients_that_are_all_zero_leave_masks_as_they_are() -> None:
    owned = torch.rand(3, 30, generator=torch.Generator().manual_seed(0)) < 0.6
    nothing = TaskGradients(torch.zeros(1, 30), torch.zeros(1, 30))
    after = updated_masks(
        owned, lambda _: nothing, torch.ones(1, 30), changes=2, scoring=Scoring("fisher", 1.0)
    )
    assert torch.equal(after, owned)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_task_left_out_of_every_batch_keeps_its_mask_while_others_change(
    variant: Variant,
) -> None:
    owned, gradients, parameters = problem()
    gradients[2] = TaskGradients(*(torch.zeros_like(part) for part in gradients[2]))
    after = updated_masks(
        owned, gradients.__getitem__, parameters, changes=7, scoring=Scoring(variant, 1.0)
    )
    assert (owned & ~after).sum(1).tolist() == [7, 7, 0, 7]
    assert (~owned & after).sum(1).tolist() == [7, 7, 0, 7]
