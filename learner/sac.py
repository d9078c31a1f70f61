"""The soft actor-critic learner (Haarnoja et al. 2018), many tasks with a temperature each.

Axes: C critics, N rows ordered by task, M tasks, D numbers of an observation, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from learner.losses.soft_actor_critic import actor_rows, soft_value, temperature_rows
from learner.losses.task_weights import by_task, loss_weights, per_task_means
from learner.off_policy_update import OffPolicyUpdate
from learner.parallel.exchange import ALONE, Exchange
from learner.replayed import TensorReplayBatch
from learner.target_networks import fixed, follow
from repertory.config import RunConfig, SacConfig
from repertory.metrics.gradient_maps import CosineSums
from repertory.networks.control_agent import ControlAgent, split_gaussian
from repertory.networks.gaussian import Drawn, draw
from repertory.types import ReplayBatch, TaskSpec, Weights


class SacLearner:
    """One update per batch: critics, actor, temperatures, soft targets (He et al. 2024).

    A task that the maskout leaves out of an update gives no gradient to any of them.
    """

    def __init__(
        self,
        agent: ControlAgent,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        device: torch.device | None = None,
        exchange: Exchange = ALONE,
    ) -> None:
        algorithm = config.algorithm
        if not isinstance(algorithm, SacConfig) or agent.log_temperature is None:
            raise ValueError(f"a SAC learner needs algorithm.kind sac, got {algorithm.kind}")
        self._update = OffPolicyUpdate(agent, config, tasks, device, exchange)
        self._algorithm = algorithm
        self._actor = agent.actor
        self._log_temperature = agent.log_temperature
        self._target_entropy = algorithm.target_entropy_per_action * agent.action_size
        self._update.add_task_part("actor", agent.actor, self._mask_losses)
        self._update.add_part("temperature", [agent.log_temperature])

    @property
    def version(self) -> int:
        """Updates so far, the skipped ones included."""
        return self._update.version

    def update(self, batch: ReplayBatch, progress: float) -> None:
        """Learn from one batch of replayed steps, and of windows where the guide is due."""
        steps = self._update.receive(batch)
        weights = loss_weights(self._log_temperature, self._algorithm.rescale)
        temperature = by_task(self._log_temperature.detach().exp(), steps.reward.shape[0])
        next_value = self._next_value(steps, temperature)
        kept = self._update.critic_step(steps, next_value, weights, progress)
        finite = kept is not None and self._policy_steps(
            steps, temperature, weights, kept, progress
        )
        if finite:
            follow(self._update.target_critic, self._update.critic, self._algorithm.target_step)
        self._update.finish(batch, kept, progress, finite=finite)

    @torch.no_grad()
    def _next_value(
        self, steps: TensorReplayBatch, temperature: Float[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        actor = self._update.masks.worn("actor", self._actor)
        drawn = self._draw(actor.grouped(steps.next_observation))
        inputs = torch.cat([steps.next_observation, drawn.action], -1)
        target = self._update.masks.worn("critic", self._update.target_critic)
        return soft_value(
            value=target.grouped(inputs).squeeze(-1),
            log_probability=drawn.log_probability,
            temperature=temperature,
        )

    def _draw(self, outputs: Float[Tensor, "1 N O"]) -> Drawn:
        mean, log_deviation = split_gaussian(outputs[0])
        return draw(mean, log_deviation, self._update.normal(*mean.shape))

    def _policy_steps(
        self,
        steps: TensorReplayBatch,
        temperature: Float[Tensor, " N"],
        weights: Float[Tensor, " M"],
        kept: Bool[Tensor, " M"],
        progress: float,
    ) -> bool:
        """Step the actor, then the temperatures by the same draws; say whether both did."""
        tasks = len(self._update.tasks)
        outputs = self._update.outputs("actor", self._actor, steps.observation)
        mean, log_deviation = split_gaussian(outputs.outputs[0])
        noise = self._update.normal(*mean.shape)
        drawn = draw(mean, log_deviation, noise)
        means = self._actor_means(steps.observation, drawn, temperature)
        seen = {
            "inputs": steps.observation,
            "kept": kept,
            "noise": noise,
            "temperature": temperature,
        }
        self._update.masks.score("actor", seen, update=self.version + 1, progress=progress)
        if not self._update.step("actor", means, weights, kept, progress, outputs):
            return False
        rows = temperature_rows(
            log_temperature=by_task(self._log_temperature, steps.reward.shape[0]),
            log_probability=drawn.log_probability,
            target_entropy=self._target_entropy,
        )
        temperatures = self._log_temperature.detach().exp()
        moved = self._update.step(
            "temperature",
            per_task_means(rows, tasks),
            torch.ones_like(weights),
            kept,
            progress,
            reported=self._reported(means, drawn.log_probability, temperatures),
        )
        if moved and self._algorithm.temperature_cap > 0.0:
            with torch.no_grad():
                self._log_temperature.clamp_(max=math.log(self._algorithm.temperature_cap))
        return moved

    def _mask_losses(
        self, outputs: Float[Tensor, "1 N O"], rows: Mapping[str, Tensor]
    ) -> Float[Tensor, " M"]:
        drawn = draw(*split_gaussian(outputs[0]), rows["noise"])
        return self._actor_means(rows["inputs"], drawn, rows["temperature"])

    def _actor_means(
        self,
        observation: Float[Tensor, "N D"],
        drawn: Drawn,
        temperature: Float[Tensor, " N"],
    ) -> Float[Tensor, " M"]:
        """Return the tasks' actor losses of drawn actions."""
        with fixed(self._update.critic):
            inputs = torch.cat([observation, drawn.action], -1)
            critic = self._update.masks.worn("critic", self._update.critic)
            rows = actor_rows(
                value=critic.grouped(inputs).squeeze(-1),
                log_probability=drawn.log_probability,
                temperature=temperature,
            )
        return per_task_means(rows, len(self._update.tasks))

    def _reported(
        self,
        actor_losses: Float[Tensor, " M"],
        log_probability: Float[Tensor, " N"],
        temperatures: Float[Tensor, " M"],
    ) -> dict[str, Tensor]:
        return {
            "task/actor_loss": actor_losses,
            "task/entropy": -per_task_means(log_probability, len(self._update.tasks)),
            "task/temperature": temperatures,
            "learner/temperature": temperatures.mean(),
        }

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
