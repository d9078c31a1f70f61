"""One update of our SAC learner against the plain loop that its speed is measured beside."""

from __future__ import annotations

import pytest
import torch
from off_policy import box_tasks, off_policy_config, off_policy_learner, replayed

from benchmarks.plain_sac import PlainNetwork, PlainSac
from repertory.config import OptimiserConfig
from repertory.networks.task_mlp import TaskMlp

TASKS, EACH, SIZE, ACTIONS = 3, 40, 5, 2


def linears(plain: PlainNetwork) -> list[torch.nn.Linear]:
    return [part for part in plain.body if isinstance(part, torch.nn.Linear)]


def pairs(ours: TaskMlp, copy: int, plain: PlainNetwork) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return our tensors in the plain network's layout, each with its own."""
    found = []
    *hidden, head = linears(plain)
    for layer, linear in enumerate(hidden):
        weight = ours.weights[layer][copy]
        if layer == 0 and ours.code is not None:
            weight = torch.cat([weight, ours.code[copy]])
        found += [(weight.t(), linear.weight), (ours.biases[layer][copy, 0], linear.bias)]
    weight = ours.head_weight[copy].transpose(1, 2).flatten(0, 1)
    return [*found, (weight, head.weight), (ours.head_bias[copy].flatten(), head.bias)]


@pytest.mark.parametrize("heads", ["shared", "per_task"])
def test_the_plain_loop_and_ours_are_the_same_update(heads: str) -> None:
    # Adam's default epsilon would turn the noise of a gradient near 0 into a step.
    adam = OptimiserConfig(
        kind="adam", learning_rate=1e-2, anneal="none", epsilon=1e-3, clip_norm=1e9
    )
    tasks = box_tasks(TASKS, size=SIZE, actions=ACTIONS)
    config = off_policy_config(heads=heads, hidden=32, optimiser=adam)
    learner = off_policy_learner(config, tasks)
    update = learner._update
    plain = PlainSac(
        SIZE,
        ACTIONS,
        tasks=TASKS,
        hidden=32,
        layers=2,
        heads=heads == "per_task",
        learning_rate=1e-2,
        epsilon=1e-3,
    )

    def both() -> list[tuple[torch.Tensor, torch.Tensor]]:
        found = pairs(update.agent.actor, 0, plain.actor)
        for copy in (0, 1):
            found += pairs(update.critic, copy, plain.critics[copy])
            found += pairs(update.target_critic, copy, plain.targets[copy])
        return [*found, (update.agent.log_temperature, plain.log_temperature)]

    with torch.no_grad():
        for own, theirs in both():
            theirs.copy_(own)
    before = [own.clone() for own, _ in both()]
    batch = replayed(tasks, each=EACH)
    copied = torch.Generator()
    copied.set_state(update.noise.get_state())
    noise = tuple(torch.randn(TASKS * EACH, ACTIONS, generator=copied) for _ in range(2))
    learner.update(batch, 0.0)
    plain.update(
        task=torch.from_numpy(batch.task),
        observation=torch.from_numpy(batch.observation),
        action=torch.from_numpy(batch.action),
        reward=torch.from_numpy(batch.reward),
        terminated=torch.from_numpy(batch.terminated),
        next_observation=torch.from_numpy(batch.next_observation),
        noise=(noise[0], noise[1]),
    )
    for (own, theirs), old in zip(both(), before, strict=True):
        assert not torch.equal(own, old)
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)
