"""TD3 under masks, held to a loop over tasks: dense copies of a task's weights, one backward each.

Axes: N rows, A actions.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from off_policy import ADAM, box_tasks, off_policy_config, off_policy_learner, replayed
from torch import Tensor, nn
from torch.func import functional_call

from repertory.config import GradientConfig, MaskConfig, Td3Config
from repertory.masks import PackedMasks
from repertory.networks.masks import layout_of

TASKS, EACH, ACTIONS = 3, 4, 2
ALGORITHM = Td3Config(discount=0.9, target_step=0.2, policy_delay=2)


def masks_of(network: nn.Module, packed: PackedMasks, task: int) -> dict[str, Tensor]:
    """Return a task's mask of every maskable parameter, unpacked by hand."""
    bits, found, start = packed.task(task), {}, 0
    for tensor in layout_of(network).tensors:
        piece = bits[start : start + tensor.size].reshape(tensor.shape)
        found[tensor.name] = torch.from_numpy(np.array(piece, np.float32))
        start += tensor.size
    return found


class LoopedTd3:
    """Algorithm 1 of TD3 for one task after another; their gradients are summed, then a step."""

    def __init__(self, update: Any, target_actor: nn.Module) -> None:
        self.actor, self.critic = copy.deepcopy((update.agent.actor, update.critic))
        self.targets = copy.deepcopy((target_actor, update.target_critic))
        masks = update.masks.packed(("actor", "critic"))
        networks = {"actor": self.actor, "critic": self.critic}
        self.masks = {
            name: [masks_of(network, packed, task) for task in range(TASKS)]
            for (name, network), packed in zip(networks.items(), masks, strict=True)
        }
        rate, epsilon = ADAM.learning_rate, ADAM.epsilon
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=rate, eps=epsilon)
            for name, network in networks.items()
        }

    def run(self, part: str, network: nn.Module, task: int, inputs: Tensor) -> Tensor:
        """Return [C N O] of rows of one task by the weights that it owns."""
        masks = self.masks[part][task]
        own = {
            name: parameter * masks[name] if name in masks else parameter
            for name, parameter in network.named_parameters()
        }
        return functional_call(network, own, (inputs, torch.full((len(inputs),), task)))

    def update(self, batch: Any, noise: Tensor, *, actor_too: bool) -> None:
        self._step("critic", [self._critic_loss(batch, noise, task) for task in range(TASKS)])
        if not actor_too:
            return
        self._step("actor", [self._actor_loss(batch, task) for task in range(TASKS)])
        for online, target in zip((self.actor, self.critic), self.targets, strict=True):
            for new, old in zip(online.parameters(), target.parameters(), strict=True):
                old.data += ALGORITHM.target_step * (new.data - old.data)

    def _critic_loss(self, batch: Any, noise: Tensor, task: int) -> Tensor:
        rows = slice(task * EACH, (task + 1) * EACH)
        seen, after = (
            torch.from_numpy(field[rows]) for field in (batch.observation, batch.next_observation)
        )
        with torch.no_grad():
            action = torch.tanh(self.run("actor", self.targets[0], task, after)[0])
            spread = (ALGORITHM.target_noise * noise[rows]).clamp(
                -ALGORITHM.target_noise_clip, ALGORITHM.target_noise_clip
            )
            action = (action + spread).clamp(-1.0, 1.0)
            value = self.run("critic", self.targets[1], task, torch.cat([after, action], -1))
            least = value.squeeze(-1).min(0).values
            goes_on = 1.0 - torch.from_numpy(batch.terminated[rows]).float()
            target = (
                ALGORITHM.reward_scale * torch.from_numpy(batch.reward[rows])
                + ALGORITHM.discount * goes_on * least
            )
        inputs = torch.cat([seen, torch.from_numpy(batch.action[rows])], -1)
        value = self.run("critic", self.critic, task, inputs).squeeze(-1)
        return ((value - target) ** 2).sum(0).mean()

    def _actor_loss(self, batch: Any, task: int) -> Tensor:
        seen = torch.from_numpy(batch.observation[task * EACH : (task + 1) * EACH])
        action = torch.tanh(self.run("actor", self.actor, task, seen)[0])
        first, *_ = self.run("critic", self.critic, task, torch.cat([seen, action], -1))
        return -first.mean()

    def _step(self, part: str, losses: list[Tensor]) -> None:
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        for loss in losses:
            (loss / TASKS).backward()
        self.optimisers[part].step()


@pytest.mark.parametrize("heads", ["shared", "per_task"])
def test_the_one_backward_of_td3_under_masks_is_the_loop_over_tasks(heads: str) -> None:
    tasks = box_tasks(TASKS, size=3, actions=ACTIONS)
    config = off_policy_config(ALGORITHM, heads=heads, hidden=7, optimiser=ADAM)
    masked = {
        "gradients": GradientConfig(method="harmony"),
        "masks": MaskConfig(sparsity=0.4, metrics_every=10),
    }
    learner = off_policy_learner(config.model_copy(update=masked), tasks)
    update = learner._update
    actor, _ = update.masks.packed(("actor", "critic"))
    assert not np.array_equal(actor.task(0), actor.task(1))
    # The optimiser divides by its gradients' size: alike weights after steps that all differ.
    twin = LoopedTd3(update, learner._target_actor)
    for number in range(1, 5):
        batch = replayed(tasks, each=EACH, seed=number)
        drawn = torch.Generator()
        drawn.set_state(update.noise.get_state())
        noise = torch.randn(TASKS * EACH, ACTIONS, generator=drawn)
        learner.update(batch, 0.0)
        twin.update(batch, noise, actor_too=number % 2 == 0)
        pairs = {
            "actor": (update.agent.actor, twin.actor),
            "critic": (update.critic, twin.critic),
            "target actor": (learner._target_actor, twin.targets[0]),
            "target critic": (update.target_critic, twin.targets[1]),
        }
        for name, (ours, theirs) in pairs.items():
            for (parameter, own), slow in zip(
                ours.named_parameters(), theirs.parameters(), strict=True
            ):
                torch.testing.assert_close(
                    own.detach(),
                    slow.detach(),
                    rtol=2e-4,
                    atol=2e-5,
                    msg=lambda text, at=f"{name} {parameter}, update {number}": f"{at}: {text}",
                )
