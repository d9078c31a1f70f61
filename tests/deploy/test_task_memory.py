"""The plan counts what masks and the tasks' gradients take, by the sizes the networks have."""

from __future__ import annotations

from typing import Any

import pytest

from deploy import placement
from deploy.task_memory import APPLIED_AS_NUMBERS, shared_weights, task_bytes
from repertory.config import GradientConfig, MaskConfig, NetworkConfig, RunConfig, SacConfig
from repertory.masks import memory_of
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
