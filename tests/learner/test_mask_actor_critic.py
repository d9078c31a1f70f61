"""Actors' and learners' network of pixels and vectors, each column by its task's sub-network."""

from __future__ import annotations

import pytest
import torch
from mask_examples import actor_critic_of, batch_of, cut, masks_of

from learner.masks.gradients import task_gradient
from repertory.networks.acting import for_acting
from repertory.networks.actor_critic import ActorCritic
from repertory.networks.layers import use_channels_last
from repertory.networks.masked import MaskedActorCritic
from repertory.networks.masks import TaskMasks, layout_of


@pytest.mark.parametrize(
    ("torso", "conditioning", "lstm"),
    [
        ("shallow", "none", 0),
        ("impala", "embedding", 4),
        ("mlp", "one_hot", 4),
    ],
)
def test_columns_and_lanes_are_seen_by_their_tasks_own_sub_network(
    torso: str, conditioning: str, lstm: int
) -> None:
    network = actor_critic_of(torso, conditioning=conditioning, lstm=lstm)
    masks = masks_of(network)
    masked = MaskedActorCritic(network, TaskMasks(masks, layout_of(network)))
    observation, age, task, recurrent = batch_of(network, torso)
    logits, values = masked.unroll(observation, age, task, recurrent)
    first = network.rebuild(observation, age).view(
        4, 5, *network.rebuild(observation, age).shape[1:]
    )
    acted, state = masked.act(first[0], task, recurrent, age[0] == 0)
    for column, index in enumerate(task.tolist()):
        one = slice(column, column + 1)
        alone = cut(network, masks, index)
        assert isinstance(alone, ActorCritic)
        expected, value = alone.unroll(observation[:, one], age[:, one], task[one], recurrent[one])
        torch.testing.assert_close(logits[:, one], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(values[:, one], value, rtol=1e-4, atol=1e-5)
        alone_acted, alone_state = alone.act(
            first[0, one], task[one], recurrent[one], age[0, one] == 0
        )
        torch.testing.assert_close(acted[one], alone_acted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state[one], alone_state, rtol=1e-4, atol=1e-5)
    plain, _ = network.unroll(observation, age, task, recurrent)
    assert (plain - logits).abs().max() > 1e-3


def test_one_backward_of_an_actor_critic_is_the_sum_over_columns() -> None:
    network = actor_critic_of("mlp", lstm=4)
    masks, layout = masks_of(network), layout_of(network)
    observation, age, task, recurrent = batch_of(network, "mlp")
    logits, values = MaskedActorCritic(network, TaskMasks(masks, layout)).unroll(
        observation, age, task, recurrent
    )
    joint = task_gradient(logits.square().sum() + values.sum(), network, layout)
    total = torch.zeros_like(joint)
    for column, index in enumerate(task.tolist()):
        one = slice(column, column + 1)
        alone = cut(network, masks, index)
        assert isinstance(alone, ActorCritic)
        own, value = alone.unroll(observation[:, one], age[:, one], task[one], recurrent[one])
        gradient = task_gradient(own.square().sum() + value.sum(), alone, layout)
        total = total + gradient * torch.from_numpy(masks.task(index))
    torch.testing.assert_close(joint, total, rtol=1e-4, atol=1e-5)


def test_masked_convolutions_keep_the_memory_layout_that_images_come_in() -> None:
    network = actor_critic_of("shallow")
    use_channels_last(network)
    masked = TaskMasks(masks_of(network), layout_of(network)).masked(network, 0)
    weight = masked["torso.convolutions.1.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_an_acting_copy_in_bfloat16_plays_the_same_sub_networks() -> None:
    network = actor_critic_of("shallow")
    masks, layout = masks_of(network), layout_of(network)
    acting = for_acting(network, "bf16")
    observation, age, task, recurrent = batch_of(network, "shallow")
    stacked = network.rebuild(observation, age)[:5]
    with torch.no_grad():
        exact, _ = MaskedActorCritic(network, TaskMasks(masks, layout)).act(
            stacked, task, recurrent, age[0] == 0
        )
        rounded, _ = MaskedActorCritic(
            acting, TaskMasks(masks, layout, number_format=torch.bfloat16)
        ).act(stacked, task, recurrent, age[0] == 0)
        dense, _ = acting.act(stacked, task, recurrent, age[0] == 0)
    assert (rounded - exact).abs().max() < 0.2 * (dense - exact).abs().max()
