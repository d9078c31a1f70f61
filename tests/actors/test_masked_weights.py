"""How often workers build the weights that tasks act with under masks: once per publication.

Axes: M tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from acting_agents import RewardingLanes, box_tasks, guided_config
from synthetic import run_config, vector_tasks
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from actors.control_policy import ControlPolicy
from actors.guidance import guided_policy
from actors.policy import NetworkPolicy, Policy
from learner.masks.initialisation import initial_masks
from repertory.config import GradientConfig, MaskConfig, NetworkConfig
from repertory.masks import PackedMasks, pack
from repertory.networks.acting import for_acting
from repertory.networks.actor_critic import build_network
from repertory.networks.control_agent import build_agent
from repertory.networks.flat import to_vector
from repertory.networks.masks import TaskMasks, layout_of, maskable_parameters
from repertory.seeding import stream
from repertory.types import Weights

TASKS = 3
LANES = [0, 0, 1, 1, 2, 2]
SETTINGS = {
    "gradients": GradientConfig(method="harmony"),
    "masks": MaskConfig(sparsity=0.3, variant="fisher", alpha=0.1),
}


class Products(TorchDispatchMode):
    """Counts elementwise products with maskable weights: what makes masked ones of them."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        parts = [maskable_parameters(one, layout_of(one)).values() for one in networks]
        self.weights = [parameter for part in parts for parameter in part]
        self._stored = {one.untyped_storage().data_ptr() for one in self.weights}
        self._count = 0

    def since(self) -> int:
        """Return the products since the last call."""
        count, self._count = self._count, 0
        return count

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        if function.overloadpacket in (torch.ops.aten.mul, torch.ops.aten.mul_):
            tensors = [one for one in arguments if isinstance(one, Tensor)]
            stored = {one.untyped_storage().data_ptr() for one in tensors}
            self._count += bool(stored & self._stored)
        return function(*arguments, **(named or {}))


def masks_of(networks: list[nn.Module], version: int) -> tuple[PackedMasks, ...]:
    """Return masks that are others at every version, as new objects like those that travel."""
    return tuple(
        pack(
            initial_masks(
                layout_of(one),
                tasks=TASKS,
                sparsity=0.3,
                kind="erk",
                generator=np.random.default_rng(version),
            ),
            version,
        )
        for one in networks
    )


def actor_critic_worker() -> tuple[Policy, nn.Module, list[nn.Module], Callable[[], list[Any]]]:
    """Return a policy, what is published, its masked networks, and the masks they have on."""
    network = NetworkConfig(torso="mlp", hidden=16, conditioning="one_hot")
    config = run_config(network, **SETTINGS)
    acting = for_acting(build_network(vector_tasks(TASKS, size=5), config.network, 5))
    policy = NetworkPolicy(acting, stream(1, "policy"), masks=config.masks)
    return policy, acting, [acting], lambda: [policy._acting.masks]


def control_worker(
    guide: str,
) -> tuple[Policy, nn.Module, list[nn.Module], Callable[[], list[Any]]]:
    """Return the same of an off-policy run, with the critics that its guide asks."""
    config = guided_config(layers=3, kind=guide).model_copy(update=SETTINGS)
    agent = build_agent(box_tasks(TASKS), config, 3)
    own = ControlPolicy(agent, config, stream(1, "policy"))
    policy = own if guide == "none" else guided_policy(own, config, own.generator)
    networks: list[nn.Module] = [one for one in (agent.actor, agent.critic) if one is not None]

    def worn() -> list[Any]:
        return [one.masks for one in (agent.policies, agent.values) if one is not None]

    return policy, agent, networks, worn


@pytest.mark.parametrize("worker", ["vtrace", "none", "ctpg", "qmp"])
def test_masked_weights_are_built_once_per_publication_and_masks_read_once_per_version(
    worker: str,
) -> None:
    policy, published, networks, worn = (
        actor_critic_worker() if worker == "vtrace" else control_worker(worker)
    )
    vector = to_vector(published)
    lanes = RewardingLanes(LANES, [5, 9, 7, 9, 9, 6])
    seen, products = lanes.reset(), Products(networks)
    task, started = lanes.task, np.ones(len(LANES), np.bool_)
    nothing = np.zeros((len(LANES), 0), np.float32)
    before: list[TaskMasks] = []
    for version, mask_version in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)]:
        # Nothing is made of weights of a publication that was acted with already.
        policy.load(Weights(version, version * vector, masks=masks_of(networks, mask_version)))
        changed = version in (1, 3, 5)
        assert [now in before for now in worn()] == [not changed] * len(networks)
        before = worn()
        built = []
        with products:
            for _ in range(13):
                decision = policy.act(seen, task, nothing, started)
                built.append(products.since())
                result = lanes.step(decision.action if worker != "vtrace" else played(decision))
                policy.observe(result)
                seen, started = result.observation, result.started
        assert sum(built) == TASKS * len(products.weights)
        # Guides choose among all policies in the first step, or where the first choice is due.
        assert built[0] > 0
        assert sum(built[5:]) == 0


def played(decision: Any) -> np.ndarray:
    """Return actions of a box in place of numbered ones."""
    return np.zeros((len(decision.action), 2), np.float32)
