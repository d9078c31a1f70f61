"""When masks are updated and how much of them, and the mask that tasks vote for."""

from __future__ import annotations

import numpy as np
import pytest

from learner.masks.initialisation import initial_masks
from learner.masks.schedule import changes_at, fraction_at, is_due, is_scored, window_progress
from repertory.masks import MaskedTensor, MaskLayout, voted_mask


def test_schedules_by_hand() -> None:
    hump = [fraction_at(t, schedule="hump", alpha=0.1) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert hump == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0])
    decay = [fraction_at(t, schedule="decay", alpha=0.1) for t in (0.0, 0.5, 1.0)]
    assert decay == pytest.approx([0.1, 0.05, 0.0])
    assert fraction_at(0.3, schedule="constant", alpha=0.1) == 0.1


def test_the_published_schedule_switches_as_many_positions_as_published() -> None:
    # Peak 100 positions: 9 at a tenth, 50 at a quarter, 100 at half-time, 99,000 in 2000 updates.
    weights = 1_464_620
    alpha = 100 / weights
    counts = [changes_at(k / 2000, weights, schedule="hump", alpha=alpha) for k in range(2001)]
    assert (counts[0], counts[200], counts[500], counts[1000], counts[2000]) == (0, 9, 50, 100, 0)
    assert sum(counts) == pytest.approx(99_000, rel=2e-3)


def test_masks_rest_during_warm_up_and_freeze() -> None:
    settings = {"schedule": "constant", "alpha": 0.1, "warm_up": 0.1, "freeze": 0.2}
    counts = [changes_at(t / 20, 1000, **settings) for t in range(21)]  # type: ignore[arg-type]
    assert counts == [0] * 2 + [100] * 15 + [0] * 4
    assert window_progress(0.45, warm_up=0.1, freeze=0.2) == pytest.approx(0.5)
    assert window_progress(0.5, warm_up=0.5, freeze=0.5) is None
    assert [is_due(update, every=3) for update in range(1, 8)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_the_last_batches_before_each_update_are_scored() -> None:
    assert [u for u in range(1, 13) if is_scored(u, every=6, batches=2)] == [5, 6, 11, 12]
    assert all(is_scored(u, every=2, batches=8) for u in range(1, 9))
    for every, batches in ((7, 3), (5, 5), (3, 1)):
        scored = [u for u in range(1, 4 * every + 1) if is_scored(u, every=every, batches=batches)]
        expected = [
            u
            for u in range(1, 4 * every + 1)
            if any(is_due(v, every=every) for v in range(u, u + batches))
        ]
        assert scored == expected


def test_the_vote_of_tasks_by_hand() -> None:
    votes = np.array([0, 7, 8, 9, 10])
    masks = np.arange(10)[:, np.newaxis] < votes
    # 34 votes of 10 tasks: three weights each.
    assert voted_mask(masks).tolist() == [False, False, True, True, True]
    assert voted_mask(masks, threshold=6.5).tolist() == [False, True, True, True, True]
    assert voted_mask(masks, threshold=7.0).tolist() == [False, False, True, True, True]
    assert voted_mask(masks[:1]).tolist() == masks[0].tolist()
    with pytest.raises(ValueError, match="none of 10 tasks' weights has more than 10 votes"):
        voted_mask(masks, threshold=10.0)


@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 21])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.2, 0.5, 0.8])
def test_a_new_task_owns_as_many_weights_as_any_other_those_with_most_votes(
    tasks: int, sparsity: float
) -> None:
    layout = MaskLayout(tuple(MaskedTensor(f"layer {n}", (60, 100)) for n in range(6)))
    generator = np.random.default_rng(tasks)
    masks = initial_masks(
        layout, tasks=tasks, sparsity=sparsity, kind="uniform", generator=generator
    )
    before = masks.copy()
    voted = voted_mask(masks)
    np.testing.assert_array_equal(masks, before)
    assert voted.sum() == masks[0].sum()
    votes = masks.sum(0)
    if not voted.all():
        assert votes[voted].min() >= votes[~voted].max()
    np.testing.assert_array_equal(voted, voted_mask(masks[::-1]))
    # No layer pays for the others: those of equally many votes are taken from all.
    layers = voted.reshape(6, -1).mean(1)
    np.testing.assert_allclose(layers, 1.0 - sparsity, atol=0.03)


def test_the_published_threshold_fits_one_sparsity() -> None:
    generator = np.random.default_rng(0)
    for owned, left in ((0.8, 1.0), (0.5, 0.44), (0.2, 0.0)):
        masks = generator.random((50, 40_000)) < owned
        assert voted_mask(masks, threshold=25.0).mean() == pytest.approx(left, abs=0.01)
