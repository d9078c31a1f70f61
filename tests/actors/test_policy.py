"""Policies hand out decisions and keep nothing of them."""

from __future__ import annotations

import gc

import pytest
import torch

from actors.unroller import Unroller
from deploy import build
from repertory.config import ActorConfig, CountingConfig, NetworkConfig, RunConfig
from repertory.seeding import stream


def _tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("lstm", [0, 8])
def test_acting_for_long_keeps_nothing_of_earlier_steps_alive(lstm: int) -> None:
    config = RunConfig(
        tasks=("counting/0", "counting/1"),
        environment=CountingConfig(),
        network=NetworkConfig(torso="mlp", hidden=8, lstm=lstm),
        actors=ActorConfig(count=1, lanes=4),
    )
    tasks = build.tasks_of(config)
    lanes = build.make_lanes(config.environment, tasks, [0, 1, 0, 1], seed=1, path=("test",))
    policy = build.acting_policy(config, tasks, stream(1, "policy"))
    unroller = Unroller([(lanes, policy)], tasks, length=20, worker=0, incarnation=0)
    unroller.unroll()
    before = _tensors_alive()
    for _ in range(10):
        unroller.unroll()
    assert _tensors_alive() <= before
    unroller.close()
