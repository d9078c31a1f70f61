"""The plan counts what masks and the tasks' gradients take, by the sizes the networks have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deploy import placement
from deploy.task_memory import APPLIED_AS_NUMBERS, acting_bytes, shared_weights, task_bytes
from repertory.config import (
    GradientConfig,
    GuideConfig,
    MaskConfig,
    NetworkConfig,
    RunConfig,
    SacConfig,
)
from repertory.masks import memory_of, pack
from repertory.networks import masks
from repertory.networks.actor_critic import build_network
from repertory.networks.control_agent import build_agent, build_critic
from repertory.types import ActionSpec, ObservationSpec, TaskSpec

IMAGES = ObservationSpec((84, 84), "uint8", 4)
VECTORS = ObservationSpec((39,), "float32")


def tasks_of(spec: ObservationSpec, kind: Any, count: int = 3) -> list[TaskSpec]:
    return [TaskSpec(i, f"task{i}", spec, ActionSpec(kind, 4), 0.99) for i in range(count)]


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig(torso="shallow"),
        NetworkConfig(torso="nature", hidden=512, conditioning="one_hot"),
        NetworkConfig(torso="impala", width=0.5, depth=2),
        NetworkConfig(torso="shallow", lstm=32),
        NetworkConfig(torso="mlp", hidden=64, conditioning="embedding"),
    ],
)
def test_the_size_of_an_actor_critics_trunk_is_what_masks_cover(network: NetworkConfig) -> None:
    tasks = tasks_of(VECTORS if network.torso == "mlp" else IMAGES, "discrete")
    layout = masks.layout_of(build_network(tasks, network, 1))
    config = RunConfig(network=network)
    assert shared_weights(config, tasks) == [(layout.total, layout.copies)]


def test_the_sizes_of_an_actors_and_its_critics_trunks_are_what_masks_cover() -> None:
    network = NetworkConfig(torso="mlp", hidden=40, layers=5, conditioning="one_hot")
    config, tasks = RunConfig(algorithm=SacConfig(), network=network), tasks_of(VECTORS, "box")
    actor = masks.layout_of(build_agent(tasks, config, 1).actor)
    critic = masks.layout_of(build_critic(tasks, network))
    expected = [(actor.total, actor.copies), (critic.total, critic.copies)]
    assert shared_weights(config, tasks) == expected
    assert APPLIED_AS_NUMBERS == masks.APPLIED_AS_NUMBERS


def test_a_learners_memory_grows_by_masks_jacobian_and_scoring_and_no_further_than_its_bound() -> (
    None
):
    tasks = tasks_of(IMAGES, "discrete", 50)

    def learner(method: str, **settings: Any) -> int:
        config = RunConfig(
            gradients=GradientConfig.model_validate({"method": method}),
            masks=MaskConfig.model_validate(settings),
        )
        (part,) = [p for p in placement.parts(config, tasks) if p.name == "learner"]
        return part.memory

    (trunk,) = shared_weights(RunConfig(), tasks)
    jacobian = memory_of(50, *trunk).gradients
    assert learner("pcgrad") - learner("mean") == 2 * jacobian
    random = learner("harmony") - learner("mean")
    assert random > 2 * jacobian
    assert learner("harmony", variant="fisher") - learner("harmony") == 2 * jacobian
    # Streamed: no more than the bound, whatever the variant.
    small = learner("harmony", variant="fisher", gradient_bytes=10**7) - learner("mean")
    assert small == random - jacobian + 10**7
    assert task_bytes(RunConfig(), tasks) == 0


def bytes_of(tensors: Any) -> int:
    """Return the bytes of the memory that tensors lie in, each piece of it once."""
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def worn(networks: list[Any]) -> int:
    """Return the bytes of masks that are ready and of masked weights that were made."""
    parts = [part for one in networks for part in one.masks._of.values()]
    ready = bytes_of([mask for masks in parts for mask in masks])
    made = [weight for one in networks for trunk in one._trunks.values() for weight in trunk]
    return ready + bytes_of(made)


@pytest.mark.parametrize("guide", ["none", "ctpg"])
def test_who_acts_holds_all_tasks_masks_and_the_masked_weights_of_those_that_are_asked(
    guide: str,
) -> None:
    algorithm = SacConfig(guide=GuideConfig.model_validate({"kind": guide}))
    network = NetworkConfig(torso="mlp", hidden=40, layers=3, conditioning="one_hot")
    harmony = GradientConfig(method="harmony")
    config = RunConfig(algorithm=algorithm, network=network, gradients=harmony)
    tasks = tasks_of(VECTORS, "box", 4)
    agent = build_agent(tasks, config, 1)
    parts = [one for one in (agent.actor, agent.critic) if one is not None]
    assert len(parts) == (2 if guide == "ctpg" else 1)
    totals = [masks.layout_of(one).total for one in parts]
    packed = [pack(np.ones((4, total), np.bool_), 0) for total in totals]
    agent.wear(*(masks.MaskReader(p, config.masks)(m) for p, m in zip(parts, packed, strict=True)))
    with torch.inference_mode():
        two = torch.tensor([0, 1])
        agent.policies.forward(torch.zeros(2, 39), two)
        readied = [one for one in (agent.policies, agent.values) if one is not None]
        assert worn(readied) == acting_bytes(config, tasks, played=2, guided=False)
        every = torch.arange(4)
        agent.policies.forward(torch.zeros(4, 39), every)
        if agent.values is not None:
            agent.values.forward(torch.zeros(4, 43), every)
    played = 4 if guide == "none" else 2
    assert worn(readied) == acting_bytes(config, tasks, played=played, guided=True)
    changing = config.model_copy(update={"masks": MaskConfig(variant="fisher")})
    asked = {"played": played, "guided": True}
    assert acting_bytes(changing, tasks, **asked) == 2 * acting_bytes(config, tasks, **asked)
    agent.take_off()
    assert agent.policies is agent.actor


def test_workers_and_evaluators_are_planned_with_the_masks_that_they_hold() -> None:
    tasks = tasks_of(IMAGES, "discrete", 21)
    plain, masked = (
        {part.name: part.memory for part in placement.parts(config, tasks)}
        for config in (RunConfig(), RunConfig(gradients=GradientConfig(method="harmony")))
    )
    ((weights, _),) = shared_weights(RunConfig(), tasks)
    assert masked["rollout worker"] - plain["rollout worker"] == 4 * weights * (22 + 21)
    assert masked["evaluator"] - plain["evaluator"] == 4 * weights * (22 + 21)
    assert masked["driver"] == plain["driver"]
