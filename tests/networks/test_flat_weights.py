"""Weights as a vector: there and back, into other formats, and sizes that do not fit."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from synthetic import image_tasks

from repertory.config import NetworkConfig, PopArtConfig
from repertory.networks.acting import for_acting
from repertory.networks.actor_critic import build_network
from repertory.networks.flat import load_vector, to_vector

CONFIG = NetworkConfig(hidden=16, lstm=4, conditioning="one_hot", popart=PopArtConfig(enabled=True))
TASKS = image_tasks(3, side=44)


def test_a_vector_carries_every_parameter_and_statistic() -> None:
    source, target = build_network(TASKS, CONFIG, 1), build_network(TASKS, CONFIG, 2)
    source.value.mu.copy_(torch.tensor([1.0, 2.0, 3.0]))
    vector = to_vector(source)
    assert vector.dtype == np.float32
    vector.flags.writeable = False
    load_vector(target, vector)
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name


def test_a_vector_does_not_change_with_the_network_it_came_from() -> None:
    network = build_network(TASKS, CONFIG, 1)
    vector = to_vector(network)
    before = vector.copy()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(vector, before)


def test_a_float32_vector_fits_a_bf16_copy_in_another_memory_layout() -> None:
    source = build_network(TASKS, CONFIG, 1)
    acting = for_acting(build_network(TASKS, CONFIG, 2), "bf16")
    load_vector(acting, to_vector(source))
    for name, tensor in source.named_parameters():
        copied = dict(acting.named_parameters())[name]
        torch.testing.assert_close(copied.float(), tensor.detach(), rtol=0.005, atol=1e-6)
    assert {p.dtype for p in acting.torso.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in acting.policy.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in acting.parameters())


def test_a_copy_for_acting_leaves_the_network_alone() -> None:
    network = build_network(TASKS, CONFIG, 1)
    before = to_vector(network)
    load_vector(for_acting(network, "bf16"), np.zeros_like(before))
    np.testing.assert_array_equal(to_vector(network), before)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_vector_of_another_size_is_refused_with_both_sizes() -> None:
    network = build_network(TASKS, CONFIG, 1)
    size = to_vector(network).size
    with pytest.raises(ValueError, match=f"{size + 1:,} weights.*{size:,}"):
        load_vector(network, np.zeros(size + 1, np.float32))


@pytest.mark.parametrize("torso", ["shallow", "impala"])
def test_the_memory_layout_changes_where_numbers_lie_and_not_what_they_are(
    torso: Literal["shallow", "impala"],
) -> None:
    config = NetworkConfig(torso=torso, hidden=16, width=0.5)
    network = build_network(image_tasks(1, side=44), config, 1)
    stacked = torch.randint(0, 256, (5, 44, 44, 4), dtype=torch.uint8)
    task, recurrent = torch.zeros(5, dtype=torch.int32), torch.zeros(5, 0)
    started = torch.zeros(5, dtype=torch.bool)
    seen: list[bool] = []
    logits = []
    for layout in ("channels_last", "contiguous"):
        acting = for_acting(network, "fp32", layout)
        acting.torso.register_forward_pre_hook(
            lambda _, given: seen.append(given[0].is_contiguous())
        )
        with torch.inference_mode():
            logits.append(acting.act(stacked, task, recurrent, started)[0])
    assert seen == [False, True]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-6)
