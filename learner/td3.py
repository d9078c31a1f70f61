"""The TD3 learner (Fujimoto et al. 2018), many tasks on one network.

Axes: C critics, N rows ordered by task, M tasks, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from learner.losses.deterministic_policy_gradient import (
    actor_rows,
    pessimistic_value,
    smoothed_action,
)
from learner.losses.task_weights import per_task_means
from learner.off_policy_update import OffPolicyUpdate
from learner.parallel.exchange import ALONE, Exchange
from learner.replayed import TensorReplayBatch
from learner.target_networks import fixed, follow, target_of
from repertory.config import RunConfig, Td3Config
from repertory.metrics.gradient_maps import CosineSums
from repertory.networks.control_agent import ControlAgent
from repertory.types import ReplayBatch, TaskSpec, Weights


class Td3Learner:
    """Critics in every update; actor and targets in every `policy_delay`-th."""

    def __init__(
        self,
        agent: ControlAgent,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        device: torch.device | None = None,
        exchange: Exchange = ALONE,
    ) -> None:
        algorithm = config.algorithm
        if not isinstance(algorithm, Td3Config):
            raise ValueError(f"a TD3 learner needs algorithm.kind td3, got {algorithm.kind}")
        self._update = OffPolicyUpdate(agent, config, tasks, device, exchange)
        self._algorithm = algorithm
        self._actor = agent.actor
        self._target_actor = target_of(agent.actor)
        self._weights = torch.ones(len(tasks), device=self._update.device)
        self._update.add_network("target_actor", self._target_actor)
        self._update.add_task_part(
            "actor",
            agent.actor,
            lambda outputs, rows: self._actor_means(rows["inputs"], outputs),
        )

    @property
    def version(self) -> int:
        """Updates so far, the skipped ones included."""
        return self._update.version

    def update(self, batch: ReplayBatch, progress: float) -> None:
        """Learn from one batch of replayed steps, and of windows where the guide is due."""
        steps = self._update.receive(batch)
        kept = self._update.critic_step(steps, self._next_value(steps), self._weights, progress)
        finite = kept is not None
        if kept is not None and (self.version + 1) % self._algorithm.policy_delay == 0:
            finite = self._actor_step(steps, kept, progress)
            if finite:
                share = self._algorithm.target_step
                follow(self._update.target_critic, self._update.critic, share)
                follow(self._target_actor, self._actor, share)
        self._update.finish(batch, kept, progress, finite=finite)

    @torch.no_grad()
    def _next_value(self, steps: TensorReplayBatch) -> Float[Tensor, " N"]:
        actor = self._update.masks.worn("actor", self._target_actor)
        action = torch.tanh(actor.grouped(steps.next_observation)[0])
        action = smoothed_action(
            action,
            self._update.normal(*action.shape),
            deviation=self._algorithm.target_noise,
            clip=self._algorithm.target_noise_clip,
        )
        inputs = torch.cat([steps.next_observation, action], -1)
        target = self._update.masks.worn("critic", self._update.target_critic)
        return pessimistic_value(target.grouped(inputs).squeeze(-1))

    def _actor_step(
        self, steps: TensorReplayBatch, kept: Bool[Tensor, " M"], progress: float
    ) -> bool:
        outputs = self._update.outputs("actor", self._actor, steps.observation)
        means = self._actor_means(steps.observation, outputs.outputs)
        rows = {"inputs": steps.observation, "kept": kept}
        self._update.masks.score("actor", rows, update=self.version + 1, progress=progress)
        reported = {"task/actor_loss": means}
        return self._update.step("actor", means, self._weights, kept, progress, outputs, reported)

    def _actor_means(
        self, observation: Float[Tensor, "N D"], outputs: Float[Tensor, "1 N A"]
    ) -> Float[Tensor, " M"]:
        """Return the tasks' losses of an actor's outputs."""
        with fixed(self._update.critic):
            inputs = torch.cat([observation, torch.tanh(outputs[0])], -1)
            critic = self._update.masks.worn("critic", self._update.critic)
            value = critic.grouped(inputs)[0].squeeze(-1)
        return per_task_means(actor_rows(value), len(self._update.tasks))

    def weights(self) -> Weights:
        """Return what actors need, stamped with the version."""
        return self._update.weights()

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call."""
        return self._update.metrics()

    def cosines(self) -> list[CosineSums]:
        """Return the cosines between the tasks' gradients measured since the last call."""
        return self._update.surgery.sums.read()

    def state(self) -> dict[str, Any]:
        """Return networks, optimisers, counters, noise and sums."""
        return self._update.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state from `state()`."""
        self._update.restore(state)
