"""Whole TD3 updates against a twin in float64 that forms every row's loss by itself."""

from __future__ import annotations

import copy

import pytest
import torch
from off_policy import box_tasks, off_policy_config, off_policy_learner, replayed
from torch import Tensor

from repertory.config import OptimiserConfig, Td3Config

# Adam's first steps are signs of gradients unless epsilon is of their size.
ADAM = OptimiserConfig(kind="adam", learning_rate=3e-2, anneal="none", epsilon=1e-2, clip_norm=0.7)


@pytest.mark.parametrize("limit", ["bootstrap", "terminal"])
@pytest.mark.parametrize("heads", ["shared", "per_task"])
def test_whole_updates_are_those_of_a_row_by_row_twin(heads: str, limit: str) -> None:
    algorithm = Td3Config(
        discount=0.9,
        target_step=0.2,
        reward_scale=0.5,
        target_noise=0.4,
        target_noise_clip=0.3,
        time_limit=limit,  # type: ignore[arg-type]
    )
    tasks = box_tasks(3, size=3, actions=2)
    learner = off_policy_learner(
        off_policy_config(algorithm, heads=heads, hidden=7, optimiser=ADAM), tasks
    )
    update = learner._update
    actor = copy.deepcopy(update.agent.actor).double()
    critic = copy.deepcopy(update.critic).double()
    target_actor, target_critic = copy.deepcopy(actor), copy.deepcopy(critic)
    adams = [
        torch.optim.Adam(network.parameters(), lr=3e-2, eps=1e-2) for network in (actor, critic)
    ]

    def step(part: int, network: torch.nn.Module, loss: Tensor) -> None:
        for parameter in (*actor.parameters(), *critic.parameters()):
            parameter.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.7)
        adams[part].step()

    for seed in range(4):
        batch = replayed(tasks, each=4, seed=seed)
        copied = torch.Generator()
        copied.set_state(update.noise.get_state())
        noise = torch.randn(12, 2, generator=copied).double()
        learner.update(batch, 0.0)
        losses, actor_losses = [], []
        for n in range(12):
            task = torch.tensor([int(batch.task[n])])
            observation, action, after = (
                torch.tensor(array[n : n + 1]).double()
                for array in (batch.observation, batch.action, batch.next_observation)
            )
            with torch.no_grad():
                shift = (0.4 * noise[n]).clamp(-0.3, 0.3)
                next_action = (target_actor(after, task)[0].tanh() + shift).clamp(-1.0, 1.0)
                values = target_critic(torch.cat([after, next_action], -1), task)
                ended = batch.terminated[n] or (limit == "terminal" and batch.truncated[n])
                goal = 0.5 * float(batch.reward[n])
                goal += 0.0 if ended else 0.9 * min(values.flatten().tolist())
            value = critic(torch.cat([observation, action], -1), task).flatten()
            losses.append((value[0] - goal) ** 2 + (value[1] - goal) ** 2)
        step(1, critic, torch.stack(losses).mean())
        if seed % 2 == 1:
            for n in range(12):
                task = torch.tensor([int(batch.task[n])])
                observation = torch.tensor(batch.observation[n : n + 1]).double()
                own = actor(observation, task)[0].tanh()
                actor_losses.append(-critic(torch.cat([observation, own], -1), task)[0].squeeze())
            step(0, actor, torch.stack(actor_losses).mean())
            with torch.no_grad():
                for target, online in ((target_actor, actor), (target_critic, critic)):
                    for old, new in zip(target.parameters(), online.parameters(), strict=True):
                        old.copy_(0.8 * old + 0.2 * new)
        networks = (
            (update.agent.actor, actor),
            (update.critic, critic),
            (update.target_critic, target_critic),
            (learner._target_actor, target_actor),
        )
        for ours, slow in networks:
            for own, expected in zip(ours.parameters(), slow.parameters(), strict=True):
                torch.testing.assert_close(own.double(), expected, rtol=2e-4, atol=2e-5)
