"""Masks as they are drawn: counts, densities, streams, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from learner.masks.initialisation import erk_densities, initial_masks, owned_counts
from repertory.config.masks import MaskConfig
from repertory.errors import BadInput
from repertory.masks import MaskedTensor, MaskLayout
from repertory.seeding import stream

SHAPES = ((49, 40), (40, 40), (40, 40), (16, 4, 8, 8), (3,))


def layout_of_shapes(shapes: tuple[tuple[int, ...], ...]) -> MaskLayout:
    return MaskLayout(tuple(MaskedTensor(f"part {i}", s) for i, s in enumerate(shapes)))


@pytest.mark.parametrize("kind", ["erk", "uniform"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.2, 0.37, 0.5, 0.93])
def test_every_task_owns_the_same_number_of_each_parameters_weights(
    kind: str, sparsity: float
) -> None:
    layout = layout_of_shapes(SHAPES)
    masks = initial_masks(
        layout,
        tasks=6,
        sparsity=sparsity,
        kind=kind,  # type: ignore[arg-type]
        generator=stream(0, "masks"),
    )
    assert (masks.sum(1) == round((1.0 - sparsity) * layout.total)).all()
    counts = owned_counts(layout.shapes, sparsity=sparsity, kind=kind)  # type: ignore[arg-type]
    for offset, size, count in zip(layout.offsets, layout.sizes, counts, strict=True):
        assert (masks[:, offset : offset + size].sum(1) == count).all()


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.93])
def test_uniform_counts_are_off_by_less_than_one_weight(sparsity: float) -> None:
    counts = owned_counts(SHAPES, sparsity=sparsity, kind="uniform")
    for shape, count in zip(SHAPES, counts, strict=True):
        assert abs(count - (1.0 - sparsity) * math.prod(shape)) <= 1.0


def test_densities_by_hand() -> None:
    # 100 weights, 60 owned. (2, 5): 7/10 per epsilon; (9, 10): 19/90. Epsilon 60/26 gives the first
    # 16.2 of 10 weights: dense; then epsilon is 50/19 and the second has 50 of 90.
    assert erk_densities([(2, 5), (9, 10)], 0.6) == pytest.approx([1.0, 50 / 90])
    assert owned_counts([(2, 5), (9, 10)], sparsity=0.4, kind="erk") == (10, 50)
    # Nothing is dense: 30 of 200, epsilon 30/40, 15 each.
    assert erk_densities([(10, 10), (10, 10)], 0.15) == pytest.approx([0.15, 0.15])


def test_counts_are_rounded_by_largest_remainder() -> None:
    # 2.6 each of 4: three take what is missing to 13, the first ones.
    assert owned_counts([(4,)] * 5, sparsity=0.35, kind="uniform") == (3, 3, 3, 2, 2)
    # 1.5, 4.5 and 0.75 make 7 of 9 at the density 7/9: 1.56, 4.67, 0.78.
    assert owned_counts([(2,), (6,), (1,)], sparsity=0.25, kind="uniform") == (1, 5, 1)


def test_densities_own_what_is_asked_and_are_proportional_where_not_dense() -> None:
    densities = erk_densities(SHAPES, 0.5)
    sizes = [math.prod(shape) for shape in SHAPES]
    owned = sum(d * size for d, size in zip(densities, sizes, strict=True))
    assert owned == pytest.approx(0.5 * sum(sizes))
    ratios = {
        round(d * size / sum(shape), 9)
        for d, size, shape in zip(densities, sizes, SHAPES, strict=True)
        if d < 1.0
    }
    assert len(ratios) == 1
    assert densities[-1] == 1.0
    assert max(densities) <= 1.0


def test_a_sparsity_of_zero_owns_everything() -> None:
    masks = initial_masks(
        layout_of_shapes(SHAPES), tasks=2, sparsity=0.0, kind="erk", generator=stream(0, "masks")
    )
    assert masks.all()


def test_masks_are_drawn_from_their_stream_alone_and_independently_for_tasks() -> None:
    layout = layout_of_shapes(((100, 100),))

    def draw(seed: int) -> np.ndarray:
        return initial_masks(
            layout, tasks=4, sparsity=0.2, kind="erk", generator=stream(seed, "masks")
        )

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()
    masks = draw(1)
    both_out = (~masks[0] & ~masks[1]).mean()
    assert both_out == pytest.approx(0.04, abs=0.01)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan])
def test_a_sparsity_that_is_not_one_is_refused(sparsity: float) -> None:
    with pytest.raises(BadInput, match="at least 0 and below 1, got"):
        owned_counts(SHAPES, sparsity=sparsity, kind="erk")
    with pytest.raises(ValueError, match="sparsity"):
        MaskConfig(sparsity=sparsity)


def test_settings_that_cannot_be_together_are_refused() -> None:
    with pytest.raises(ValueError, match="leave no time for updates"):
        MaskConfig(warm_up=0.6, freeze=0.4)
    with pytest.raises(ValueError, match=r"goes with masks\.schedule hump"):
        MaskConfig(compat="released", schedule="decay")
    with pytest.raises(ValueError, match=r"exchange in one update: at most 0\.2"):
        MaskConfig(variant="fisher", alpha=0.3)
    assert MaskConfig(variant="random", alpha=0.3).sparsity == 0.2
    # As much as there is may be exchanged, though 1 - 0.8 is a little less than 0.2 in floats.
    assert MaskConfig(variant="fisher", sparsity=0.8, alpha=0.2).alpha == 0.2
    assert MaskConfig().variant == "random"
