"""Sub-networks of tasks against weights masked by hand, and one backward against many."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from mask_examples import actor_critic_of, cut, masks_of, mlp_of, rows_of

from learner.masks.gradients import task_gradient
from repertory.masks import PackedMasks, masks_from_state, masks_state, memory_of, pack
from repertory.networks.masked import MaskedActorCritic, MaskedMlp
from repertory.networks.masks import TaskMasks, flatten, layout_of

KINDS = list(itertools.product((False, True), (False, True)))


@pytest.mark.parametrize(("one_hot", "heads"), KINDS)
def test_each_row_is_computed_by_its_tasks_own_sub_network(one_hot: bool, heads: bool) -> None:
    network = mlp_of(one_hot=one_hot, heads=heads)
    masks = masks_of(network)
    masked = MaskedMlp(network, TaskMasks(masks, layout_of(network)))
    rows = rows_of(12)
    alone = [cut(network, masks, task) for task in range(3)]
    expected = torch.cat(
        [
            part.forward(rows[4 * i : 4 * i + 4], torch.full((4,), i))
            for i, part in enumerate(alone)
        ],
        1,
    )
    task = torch.arange(3).repeat_interleave(4)
    torch.testing.assert_close(masked.grouped(rows), expected)
    torch.testing.assert_close(masked.of_counts(rows, task, [4, 4, 4]), expected)
    shuffle = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(masked.forward(rows[shuffle], task[shuffle]), expected[:, shuffle])
    every = masked.every_task(rows)
    for index, part in enumerate(alone):
        torch.testing.assert_close(every[:, :, index], part.forward(rows, torch.full((12,), index)))
    assert (masked.grouped(rows) - network.grouped(rows)).abs().max() > 0.1


def test_parts_of_unequal_size_leave_out_tasks_without_rows() -> None:
    network = mlp_of()
    masks = masks_of(network)
    masked = MaskedMlp(network, TaskMasks(masks, layout_of(network)))
    rows, task = rows_of(5), torch.tensor([0, 2, 2, 2, 2])
    torch.testing.assert_close(masked.of_counts(rows, task, [1, 0, 4]), masked.forward(rows, task))


def test_many_rows_give_the_same_by_the_library_that_the_plain_network_uses() -> None:
    network = mlp_of(hidden=32)
    masks = masks_of(network)
    masked = MaskedMlp(network, TaskMasks(masks, layout_of(network)))
    rows = rows_of(3 * 80)
    outputs = masked.grouped(rows)
    for index in range(3):
        part = slice(80 * index, 80 * index + 80)
        expected = cut(network, masks, index).forward(rows[part], torch.full((80,), index))
        torch.testing.assert_close(outputs[:, part], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
def test_masks_that_own_everything_change_no_number(number_format: torch.dtype) -> None:
    network = mlp_of()
    network.number_format = number_format
    masks = masks_of(network, sparsity=0.0)
    masked = MaskedMlp(network, TaskMasks(masks, layout_of(network)))
    torch.testing.assert_close(masked.grouped(rows_of(12)), network.grouped(rows_of(12)))


def test_a_task_that_was_not_trained_on_has_the_voted_mask_or_all_weights() -> None:
    network = mlp_of(heads=False)
    masks = masks_of(network)
    layout = layout_of(network)
    rows, unknown = rows_of(4), torch.full((4,), -1)
    dense = MaskedMlp(network, TaskMasks(masks, layout)).forward(rows, unknown)
    torch.testing.assert_close(dense, network.forward(rows, unknown))
    lent = TaskMasks(masks, layout, unseen=masks.task(1))
    torch.testing.assert_close(
        MaskedMlp(network, lent).forward(rows, unknown),
        cut(network, masks, 1).forward(rows, unknown),
    )


@pytest.mark.parametrize(("one_hot", "heads"), KINDS)
def test_one_backward_of_one_loss_is_the_sum_of_backwards_task_by_task(
    one_hot: bool, heads: bool
) -> None:
    network = mlp_of(one_hot=one_hot, heads=heads)
    masks = masks_of(network)
    layout = layout_of(network)
    rows = rows_of(12)
    outputs = MaskedMlp(network, TaskMasks(masks, layout)).grouped(rows)
    loss = outputs.square().mean()
    names = dict(network.named_parameters())
    joint = torch.autograd.grad(loss, list(names.values()))
    total = [torch.zeros_like(parameter) for parameter in names.values()]
    bits = masks.unpack()
    for index in range(3):
        part = cut(network, masks, index)
        own = part.forward(rows[4 * index : 4 * index + 4], torch.full((4,), index))
        gradients = torch.autograd.grad(own.square().mean() / 3, list(part.parameters()))
        by_name = dict(zip(names, gradients, strict=True))
        for name, offset, size, shape in zip(
            layout.names, layout.offsets, layout.sizes, layout.shapes, strict=True
        ):
            own_bits = torch.from_numpy(bits[index, offset : offset + size]).reshape(shape)
            by_name[name] = by_name[name] * own_bits
        total = [a + b for a, b in zip(total, by_name.values(), strict=True)]
    for name, one, many in zip(names, joint, total, strict=True):
        torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-7, msg=name)


def test_a_task_never_moves_a_weight_that_it_does_not_own() -> None:
    network = mlp_of()
    masks = masks_of(network)
    layout = layout_of(network)
    rows = rows_of(12)
    for index in range(3):
        outputs = MaskedMlp(network, TaskMasks(masks, layout)).grouped(rows)
        gradient = task_gradient(
            outputs[:, 4 * index : 4 * index + 4].square().sum(), network, layout
        )
        owned = torch.from_numpy(masks.task(index))
        assert gradient.shape == (2, layout.total)
        assert not gradient[:, ~owned].any()
        assert gradient[:, owned].any()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_only_matrices_of_the_trunk_are_maskable() -> None:
    layout = layout_of(actor_critic_of("shallow", conditioning="one_hot", lstm=4))
    assert layout.names == (
        "torso.convolutions.0.weight",
        "torso.convolutions.1.weight",
        "torso.hidden.weight",
        "conditioning.mix.weight",
        "memory.from_input.weight",
        "memory.from_hidden.weight",
    )
    assert layout.shapes[0] == (8, 4, 8, 8)
    assert layout.shapes[3] == (16, 16)
    assert layout.tensors[3].free_columns == 3
    control = layout_of(mlp_of(copies=2))
    assert control.names == ("weights.0", "weights.1", "weights.2")
    assert control.shapes == ((5, 8), (8, 8), (8, 8))
    assert (control.sizes, control.offsets, control.total) == ((40, 64, 64), (0, 40, 104), 168)
    assert control.copies == 2


def test_the_released_layout_counts_codes_and_heads_but_never_masks_them() -> None:
    network = mlp_of()
    layout = layout_of(network, released=True)
    assert layout.names == ("weights.0", "weights.1", "weights.2", "code", "head_weight")
    assert [tensor.exempt for tensor in layout.tensors] == [False, False, False, True, True]
    nothing = pack(np.zeros((3, layout.total), np.bool_), version=0)
    masked = TaskMasks(nothing, layout).masked(network, 1)
    assert set(masked) == {"weights.0", "weights.1", "weights.2"}
    outputs = MaskedMlp(network, TaskMasks(nothing, layout)).grouped(rows_of(6))
    gradient = task_gradient(outputs.square().sum(), network, layout)
    assert gradient[:, layout.offsets[4] :].any()


def test_theta_and_masks_are_read_only_for_the_masked_forward() -> None:
    network = mlp_of()
    masks = masks_of(network)
    before, bits = flatten(layout_of(network), dict(network.named_parameters())), masks.bits.copy()
    masked = MaskedMlp(network, TaskMasks(masks, layout_of(network)))
    masked.grouped(rows_of(6)).sum().backward()
    assert torch.equal(before, flatten(layout_of(network), dict(network.named_parameters())))
    np.testing.assert_array_equal(bits, masks.bits)


def test_masks_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a network with 168"):
        TaskMasks(masks_of(mlp_of(hidden=9)), layout_of(mlp_of()))
    network, control = mlp_of(), actor_critic_of("mlp")
    for one, masked in ((network, MaskedMlp), (control, MaskedActorCritic)):
        fewer = TaskMasks(masks_of(one, tasks=2), layout_of(one))
        with pytest.raises(ValueError, match="masks of 2 tasks do not fit a network of 3"):
            masked(one, fewer)  # type: ignore[arg-type]


def test_rows_that_cannot_be_shared_out_equally_are_refused() -> None:
    network = mlp_of()
    masked = MaskedMlp(network, TaskMasks(masks_of(network), layout_of(network)))
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        masked.grouped(rows_of(10))


def test_masks_too_many_for_numbers_are_kept_as_booleans_and_do_the_same() -> None:
    network = actor_critic_of("mlp", lstm=4)
    masks, layout = masks_of(network), layout_of(network)
    small = TaskMasks(masks, layout, number_format=torch.bool)
    assert small.of("torso.first.weight", 0).dtype == torch.bool
    for task in (0, 2, 9):
        by_bits = small.masked(network, task)
        for name, weight in TaskMasks(masks, layout).masked(network, task).items():
            assert torch.equal(weight, by_bits[name]), name


def test_bits_travel_and_come_back() -> None:
    masks = masks_of(mlp_of())
    unpacked = masks.unpack()
    assert unpacked.shape == (3, 168)
    assert masks.bits.nbytes == 3 * 21
    again = masks_from_state(masks_state(masks))
    assert again.version == 7
    np.testing.assert_array_equal(again.unpack(), unpacked)
    np.testing.assert_array_equal(again.task(2), unpacked[2])
    odd = pack(unpacked[:, :13], version=8)
    np.testing.assert_array_equal(odd.unpack(), unpacked[:, :13])
    with pytest.raises(ValueError, match="do not hold masks of 17 bits"):
        PackedMasks(0, odd.bits, 17)


def test_memory_is_what_the_formulas_say() -> None:
    memory = memory_of(10, 664_808)
    masks = np.zeros((10, 664_808), np.bool_)
    assert memory.packed == pack(masks, version=0).bits.nbytes
    assert memory.boolean == masks.nbytes
    assert memory.gradients == torch.empty(10, 664_808).nbytes == memory.applied
    assert memory_of(10, 100, copies=2).gradients == 8000
