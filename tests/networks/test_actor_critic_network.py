"""The network: sizes as published, acting and unrolling agree, tasks and memory do their part."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from synthetic import batch_of, image_tasks, vector_tasks

from repertory.config import NetworkConfig, PopArtConfig
from repertory.errors import BadInput
from repertory.networks.acting import for_acting
from repertory.networks.actor_critic import ActorCritic, build_network, describe
from repertory.networks.flat import to_vector
from repertory.networks.precision import number_format
from repertory.types import ActionSpec, TaskSpec, Unroll

Torso = Literal["shallow", "nature", "impala", "mlp"]
EVERYTHING = NetworkConfig(
    torso="shallow",
    hidden=24,
    lstm=8,
    conditioning="embedding",
    embedding_size=5,
    popart=PopArtConfig(enabled=True),
)


def unrolled(network: ActorCritic, batch: Unroll) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a whole batch."""
    with torch.no_grad():
        return network.unroll(
            torch.from_numpy(batch.observation),
            torch.from_numpy(batch.age),
            torch.from_numpy(batch.task),
            torch.from_numpy(batch.recurrent),
        )


def stacked_at(batch: Unroll, step: int) -> np.ndarray:
    """Return what actors would have seen before `step`, by the rule that `Unroll` states."""
    history = batch.observation.shape[0] - batch.age.shape[0]
    lanes = range(batch.lanes)
    age = batch.age[step].astype(int)
    return np.stack(
        [
            np.stack(
                [
                    batch.observation[history + step - min(k, age[lane]), lane]
                    for k in range(history, -1, -1)
                ],
                -1,
            )
            for lane in lanes
        ]
    )


@pytest.mark.parametrize(
    ("torso", "hidden", "parameters"),
    [("shallow", 256, 681_027), ("nature", 512, 1_693_875), ("impala", 256, 1_094_115)],
)
def test_published_networks_have_their_published_size(
    torso: Torso, hidden: int, parameters: int
) -> None:
    network = build_network(
        image_tasks(2, actions=18), NetworkConfig(torso=torso, hidden=hidden), 1
    )
    count, line = describe(network)
    assert count == parameters
    assert f"{parameters:,}" in line
    assert torso in line


def test_width_multiplies_channels_and_depth_multiplies_blocks() -> None:
    config = NetworkConfig(torso="impala", width=2.0, depth=2, hidden=16)
    convolutions = [
        parameter.shape[:2]
        for parameter in build_network(image_tasks(1), config, 1).torso.parameters()
        if parameter.dim() == 4
    ]
    assert len(convolutions) == 3 * (1 + 2 * 2 * 2)
    assert [shape[0] for shape in convolutions[::9]] == [32, 64, 64]


@pytest.mark.parametrize("torso", ["shallow", "nature", "impala"])
def test_acting_step_by_step_equals_unrolling(torso: Torso) -> None:
    config = EVERYTHING.model_copy(update={"torso": torso})
    tasks = image_tasks(3, side=44)
    network = build_network(tasks, config, 1)
    with torch.no_grad():
        network.policy.weight.mul_(100.0)
    batch = batch_of(tasks, steps=5, columns=3, recurrent=16)
    logits, _ = unrolled(network, batch)
    recurrent = torch.from_numpy(batch.recurrent)
    acting = for_acting(network, "fp32")
    for step in range(6):
        with torch.inference_mode():
            alone, recurrent = acting.act(
                torch.from_numpy(stacked_at(batch, step)),
                torch.from_numpy(batch.task),
                recurrent,
                torch.from_numpy(batch.age[step] == 0),
            )
        torch.testing.assert_close(alone, logits[step], rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.01


def test_memory_starts_afresh_with_an_episode() -> None:
    tasks = vector_tasks(1)
    network = build_network(tasks, NetworkConfig(torso="mlp", hidden=8, lstm=4), 1)
    batch = batch_of(tasks, steps=6, columns=1, recurrent=8)
    batch.age[:, 0] = [3, 4, 5, 0, 1, 2, 3]
    logits, values = unrolled(network, batch)
    batch.observation[:3] += 1.0
    batch.recurrent[:] += 1.0
    other_logits, other_values = unrolled(network, batch)
    assert torch.equal(logits[3:], other_logits[3:])
    assert torch.equal(values[3:], other_values[3:])
    assert not torch.equal(logits[:3], other_logits[:3])


@pytest.mark.parametrize("conditioning", ["one_hot", "embedding"])
def test_a_conditioned_network_tells_tasks_apart_and_others_do_not(
    conditioning: Literal["one_hot", "embedding"],
) -> None:
    tasks = vector_tasks(3)
    observation = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    arguments = (torch.zeros(4, 0), torch.zeros(4, dtype=torch.bool))
    told = build_network(tasks, NetworkConfig(torso="mlp", hidden=8, conditioning=conditioning), 1)
    blind = build_network(tasks, NetworkConfig(torso="mlp", hidden=8), 1)
    for network, apart in ((told, True), (blind, False)):
        first, _ = network.act(observation, torch.tensor([0, 0, 0, 0]), *arguments)
        second, _ = network.act(observation, torch.tensor([2, 2, 2, 2]), *arguments)
        assert torch.equal(first, second) is not apart


def test_an_unseen_task_gets_a_zero_code_or_the_mean_embedding() -> None:
    tasks = vector_tasks(3)
    unseen = torch.tensor([-1, 3, 99])
    for kind in ("one_hot", "embedding"):
        config = NetworkConfig(torso="mlp", hidden=8, conditioning=kind, embedding_size=4)
        conditioning = build_network(tasks, config, 1).conditioning
        assert conditioning is not None
        code = conditioning._code(unseen)
        expected = torch.zeros(3)
        if conditioning.embedding is not None:
            expected = conditioning.embedding.mean(0)
        torch.testing.assert_close(code, expected.expand(3, -1))
        assert not torch.allclose(conditioning._code(torch.tensor([0])), expected)


def test_bytes_are_scaled_to_the_unit_interval() -> None:
    network = build_network(image_tasks(1, side=44), NetworkConfig(hidden=8), 1)
    images = torch.randint(0, 256, (2, 44, 44, 4), dtype=torch.uint8)
    seen = network._see(images)
    first = network.torso.convolutions[0]
    first.input_scale = 1.0
    scaled = network.torso(images.permute(0, 3, 1, 2).to(torch.float32) / 255.0)
    torch.testing.assert_close(seen, scaled, rtol=1e-4, atol=1e-5)


def test_bf16_changes_little_and_logits_and_values_stay_float32() -> None:
    tasks = image_tasks(2)
    network = build_network(tasks, NetworkConfig(hidden=64), 1)
    with torch.no_grad():
        network.policy.weight.mul_(100.0)
    batch = batch_of(tasks)
    plain = unrolled(network, batch)
    network.number_format = torch.bfloat16
    rounded = unrolled(network, batch)
    for exact, near in zip(plain, rounded, strict=True):
        assert near.dtype == torch.float32
        assert not torch.equal(exact, near)
        torch.testing.assert_close(exact, near, rtol=0.05, atol=0.02)


def test_the_same_seed_gives_the_same_network_whatever_was_drawn_before() -> None:
    torch.manual_seed(0)
    first = to_vector(build_network(image_tasks(2), EVERYTHING, 5))
    torch.manual_seed(1)
    np.testing.assert_array_equal(first, to_vector(build_network(image_tasks(2), EVERYTHING, 5)))
    assert not np.array_equal(first, to_vector(build_network(image_tasks(2), EVERYTHING, 6)))
    assert np.isfinite(first).all()


def test_the_first_policy_is_nearly_uniform() -> None:
    logits, _ = unrolled(
        build_network(image_tasks(1), NetworkConfig(), 1), batch_of(image_tasks(1))
    )
    assert float(logits.abs().max()) < 0.05


def test_precision_auto_follows_the_hardware_and_explicit_settings_win() -> None:
    device = torch.device("cpu")
    assert number_format("fp32", device) == torch.float32
    assert number_format("bf16", device) == torch.bfloat16
    assert number_format("auto", device) in {torch.float32, torch.bfloat16}


@pytest.mark.parametrize(
    ("tasks", "config", "words"),
    [
        ([], NetworkConfig(), "at least one task"),
        (vector_tasks(1), NetworkConfig(torso="shallow"), "use mlp"),
        (image_tasks(1), NetworkConfig(torso="mlp"), "shallow, nature or impala"),
        (image_tasks(1) + image_tasks(1, actions=18), NetworkConfig(), "one network plays all"),
    ],
)
def test_what_a_network_cannot_play_is_said(
    tasks: list[TaskSpec], config: NetworkConfig, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        build_network(tasks, config, 1)


def test_box_actions_are_refused() -> None:
    spec = vector_tasks(1)[0]
    box = TaskSpec(0, "box", spec.observation, ActionSpec("box", 2), 0.99)
    with pytest.raises(BadInput, match="box actions"):
        build_network([box], NetworkConfig(torso="mlp"), 1)
