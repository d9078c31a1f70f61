"""Metrics of harmony against loops, and their null values against simulated gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from learner.masks.harmony import (
    Harmony,
    densities,
    flips,
    harmony_of,
    mean_between,
    null_of_masks,
    null_value,
    overlap,
    signs_of,
)
from learner.masks.measuring import described, measured
from repertory.masks import MaskedTensor, MaskLayout

LAYOUT = MaskLayout((MaskedTensor("a", (3, 4)), MaskedTensor("b", (8,))), copies=2)


def average_harmony(gradients: Tensor, layout: MaskLayout, **how: Any) -> Harmony:
    return harmony_of(signs_of(gradients, **how), layout)


def plain(weights: int) -> MaskLayout:
    return MaskLayout((MaskedTensor("all", (weights,)),))


def slow_harmony(gradients: Tensor, owned: Tensor | None, leave_one_out: bool) -> list[float]:
    """Return the score of the whole and of each parameter, entry by entry."""
    scores = []
    for positions in (range(20), range(12), range(12, 20)):
        terms = []
        for i in range(gradients.shape[0]):
            for c in range(gradients.shape[1]):
                for j in positions:
                    if owned is not None and not owned[i, j]:
                        continue
                    others = [
                        float(gradients[k, c, j])
                        for k in range(gradients.shape[0])
                        if not (leave_one_out and k == i)
                    ]
                    product = float(gradients[i, c, j]) * sum(others)
                    if product:
                        terms.append(math.copysign(1.0, product))
        scores.append(sum(terms) / len(terms))
    return scores


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_harmony_is_a_loop_over_entries(leave_one_out: bool, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(4, 2, 20, generator=generator)
    gradients[:, :, 5] = 0.0
    gradients[2, 1, :9] = 0.0
    owned = torch.rand(4, 20, generator=generator) < 0.7 if masked else None
    score = average_harmony(gradients, LAYOUT, owned=owned, leave_one_out=leave_one_out)
    expected = slow_harmony(gradients, owned, leave_one_out)
    assert [float(score.whole), *score.layers.tolist()] == pytest.approx(expected, abs=1e-6)


def test_gradients_that_agree_score_one_and_two_that_oppose_score_minus_one() -> None:
    one = torch.randn(1, 1, 50, generator=torch.Generator().manual_seed(0))
    agree = one.expand(3, -1, -1)
    assert float(average_harmony(agree, plain(50)).whole) == 1.0
    assert float(average_harmony(agree, plain(50), leave_one_out=True).whole) == 1.0
    oppose = torch.cat([one, -one])
    assert float(average_harmony(oppose, plain(50), leave_one_out=True).whole) == -1.0
    # Their mean is zero: nothing to compare with.
    assert math.isnan(float(average_harmony(oppose, plain(50)).whole))


def test_a_small_gradient_is_not_lost_in_the_sum_of_the_others() -> None:
    gradients = torch.tensor([[[1e-6]], [[1.0]]])
    assert float(average_harmony(gradients, plain(1), leave_one_out=True).whole) == 1.0
    gradients = torch.tensor([[[-1e-6]], [[1.0]]])
    assert float(average_harmony(gradients, plain(1), leave_one_out=True).whole) == -1.0
    assert float(average_harmony(gradients, plain(1)).whole) == 0.0
    # The first weight's agree, the second's oppose.
    gradients = torch.tensor([[[1e-9, 1.0]], [[1.0, -1.0]]])
    assert float(average_harmony(gradients, plain(2), leave_one_out=True).whole) == 0.0


@pytest.mark.parametrize(("tasks", "value"), [(2, 0.50), (5, 0.295), (10, 0.205), (50, 0.090)])
def test_independent_gradients_score_the_null_value_and_zero_when_left_out(
    tasks: int, value: float
) -> None:
    assert null_value(tasks) == pytest.approx(value, abs=6e-4)
    gradients = torch.randn(tasks, 1, 40_000, generator=torch.Generator().manual_seed(tasks))
    score = average_harmony(gradients, plain(40_000))
    assert float(score.whole) == pytest.approx(null_value(tasks), abs=0.006)
    alone = average_harmony(gradients, plain(40_000), leave_one_out=True)
    assert float(alone.whole) == pytest.approx(0.0, abs=0.015)


def test_under_masks_the_null_is_that_of_each_weights_number_of_owners() -> None:
    generator = torch.Generator().manual_seed(0)
    owned = torch.rand(5, 40_000, generator=generator) < 0.4
    gradients = (torch.randn(5, 40_000, generator=generator) * owned).unsqueeze(1)
    score = average_harmony(gradients, plain(40_000), owned=owned)
    assert float(score.whole) == pytest.approx(null_of_masks(owned), abs=0.006)
    assert null_of_masks(owned) > null_value(5) + 0.1
    assert null_of_masks(torch.ones(5, 10, dtype=torch.bool)) == pytest.approx(null_value(5))
    assert math.isnan(null_of_masks(torch.zeros(5, 10, dtype=torch.bool)))


def test_overlap_flips_and_densities_by_hand() -> None:
    owned = torch.tensor(
        [[0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=torch.bool
    )
    third = 1 / 3
    torch.testing.assert_close(
        overlap(owned), torch.tensor([[1.0, third, 0.0], [third, 1.0, 0.0], [0.0, 0.0, 1.0]])
    )
    assert float(mean_between(overlap(owned))) == pytest.approx(2 * third / 6)
    assert overlap(torch.ones(2, 6, dtype=torch.bool)).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert flips(owned, owned[[0, 2, 2]]).tolist() == [0, 4, 0]
    layout = MaskLayout((MaskedTensor("a", (2,)), MaskedTensor("b", (4,))))
    assert densities(owned, layout).tolist() == [[0.0, 1.0], [0.5, 0.75], [1.0, 0.5]]


def test_independent_masks_overlap_by_their_sparsity() -> None:
    owned = torch.rand(3, 40_000, generator=torch.Generator().manual_seed(0)) >= 0.2
    assert float(mean_between(overlap(owned))) == pytest.approx(0.2 / 1.8, abs=0.006)


def test_every_layer_is_told_of_in_both_forms_beside_its_own_null() -> None:
    layout = MaskLayout((MaskedTensor("sparse", (200, 300)), MaskedTensor("dense", (200, 200))))
    generator = torch.Generator().manual_seed(2)
    gradients = torch.randn(5, 1, layout.total, generator=generator)
    owned = torch.rand(5, layout.total, generator=generator) < 0.3
    owned[:, 60_000:] = True
    gradients = gradients * owned.unsqueeze(1)
    found = measured(gradients.__getitem__, owned, layout, at_once=layout.total)
    row = described(found, owned, layout, "_actor")
    nulls = {name: row[f"learner/harmony_layer_null_actor/{name}"] for name in ("sparse", "dense")}
    assert nulls["dense"] == pytest.approx(null_value(5))
    assert nulls["sparse"] > nulls["dense"] + 0.1
    for name, null in nulls.items():
        assert row[f"learner/harmony_layer_defined_actor/{name}"] == pytest.approx(null, abs=0.01)
        assert row[f"learner/harmony_layer_actor/{name}"] == pytest.approx(0.0, abs=0.02)
    assert nulls["dense"] < row["learner/harmony_null_actor"] < nulls["sparse"]
