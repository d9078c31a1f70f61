"""The guide beside SAC: a discrete soft actor-critic over candidates (He et al. 2024).

Axes: C critics, W windows, J candidates, M tasks.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from learner.guarded_step import GuardedStep, take_together
from learner.guide_batch import GuideBatch
from learner.guide_report import GuideReport
from learner.losses.guide import (
    comparable_value,
    critic_rows,
    guide_value,
    policy_rows,
    soft_rewards,
    target_entropy,
    temperature_rows,
)
from learner.losses.windows import window_target
from learner.network_state import network_state, restore_network
from learner.target_networks import follow, target_of
from repertory.config import RunConfig, SacConfig
from repertory.networks.control_agent import ControlAgent, guide_network, initialise
from repertory.seeding import integer


class SoftGuide:
    """Guide policy, its twin critics and temperatures, and the comparable critics where used.

    The agent owns what actors read, `guide` and `comparable`; the rest is this object's own.
    """

    def __init__(self, agent: ControlAgent, config: RunConfig, device: torch.device) -> None:
        algorithm = config.algorithm
        if not isinstance(algorithm, SacConfig) or agent.guide is None:
            raise ValueError("a soft guide needs sac and an agent with a guide")
        self._agent, self._algorithm = agent, algorithm
        self._policy = agent.guide
        critic = guide_network(agent, config.network, copies=2)
        seed = integer(config.seed, "guide", "critic")
        initialise(critic, torch.Generator().manual_seed(seed))
        self.critic = critic.to(device)
        self.critic_target = target_of(self.critic)
        self._comparable = agent.comparable
        self._comparable_target = (
            target_of(agent.comparable) if agent.comparable is not None else None
        )
        networks = (self._policy, self.critic, self.critic_target)
        compared = (self._comparable, self._comparable_target)
        self._networks = [one for one in (*networks, *compared) if one is not None]
        start = min(math.log(algorithm.guide.temperature), 0.0)
        self.log_temperature = nn.Parameter(torch.full((agent.tasks,), start, device=device))
        self._target_entropy = target_entropy(
            agent.candidates, algorithm.guide.target_entropy_scale
        )
        optimiser = config.optimiser
        self._critic_step = GuardedStep(self.critic.parameters(), optimiser)
        self._comparable_step = (
            GuardedStep(agent.comparable.parameters(), optimiser)
            if agent.comparable is not None
            else None
        )
        self._policy_step = GuardedStep(self._policy.parameters(), optimiser)
        self._temperature_step = GuardedStep([self.log_temperature], optimiser)

    @property
    def needs_fresh_actions(self) -> bool:
        """Whether the comparable critics' entropy bonus is to be read off the windows."""
        return self._comparable is not None

    def learn(self, batch: GuideBatch, progress: float) -> GuideReport | None:
        """Update critics, then policy and temperatures, then targets.

        Returns None where something was not finite: then that step and what follows are skipped.
        """
        for network in self._networks:
            network.number_format = self._agent.actor.number_format
        prepared, chosen = batch.prepared, batch.reading.chosen
        windows, counts = prepared.windows, prepared.counts
        index = windows.task.long()
        first, last = prepared.first, prepared.last
        discount = self._algorithm.discount
        reward = self._algorithm.reward_scale * windows.reward
        with torch.no_grad():
            temperature = self.log_temperature.exp()[index]
            last_logits = self._policy.of_counts(last, windows.task, counts)[0]
            target = window_target(
                reward=reward,
                length=prepared.guide_length,
                ended=prepared.ended,
                bootstrap=guide_value(
                    logits=last_logits,
                    quality=self.critic_target.of_counts(last, windows.task, counts),
                    temperature=temperature,
                ),
                discount=discount,
            )
        quality = self.critic.of_counts(first, windows.task, counts)
        rows = critic_rows(quality=quality, chosen=chosen, target=target)
        kept = batch.keeping(rows)
        critic_loss = batch.mean(rows, kept)
        steps = [(self._critic_step, critic_loss)]
        comparable_loss = torch.zeros_like(critic_loss)
        log_probability = batch.reading.log_probability
        if (
            self._comparable is not None
            and self._comparable_target is not None
            and self._comparable_step is not None
            and self._agent.log_temperature is not None
            and log_probability is not None
        ):
            with torch.no_grad():
                target = window_target(
                    reward=soft_rewards(
                        reward=reward,
                        log_probability=log_probability,
                        temperature=self._agent.log_temperature.exp()[index],
                    ),
                    length=prepared.comparable_length,
                    ended=prepared.ended,
                    bootstrap=comparable_value(
                        logits=last_logits,
                        quality=self._comparable_target.of_counts(last, windows.task, counts),
                    ),
                    discount=discount,
                )
            quality = self._comparable.of_counts(first, windows.task, counts)
            rows = critic_rows(quality=quality, chosen=chosen, target=target)
            comparable_loss = batch.mean(rows, batch.keeping(rows))
            steps.append((self._comparable_step, comparable_loss))
        if not take_together(steps, progress):
            return None

        with torch.no_grad():
            quality = self.critic.of_counts(first, windows.task, counts)
        logits = self._policy.of_counts(first, windows.task, counts)[0]
        policy = policy_rows(logits=logits, quality=quality, temperature=temperature)
        policy_loss = batch.mean(policy.loss, kept)
        rows = temperature_rows(
            log_temperature=self.log_temperature[index],
            entropy=policy.entropy,
            target_entropy=self._target_entropy,
        )
        temperature_loss = batch.mean(rows, kept)
        steps = [(self._policy_step, policy_loss), (self._temperature_step, temperature_loss)]
        if not take_together(steps, progress):
            return None
        with torch.no_grad():
            self.log_temperature.clamp_(max=0.0)
        follow(self.critic_target, self.critic, self._algorithm.target_step)
        if self._comparable is not None and self._comparable_target is not None:
            follow(self._comparable_target, self._comparable, self._algorithm.target_step)
        return GuideReport(
            critic_loss.detach(),
            comparable_loss.detach(),
            policy_loss.detach(),
            ((batch.counts > 0) & ~kept).sum() / (batch.counts > 0).sum().clamp(min=1),
            policy.entropy.detach(),
        )

    def metrics(self) -> dict[str, float]:
        """Return the temperatures of the moment."""
        return {"guide/temperature": float(self.log_temperature.detach().exp().mean())}

    def state(self) -> dict[str, Any]:
        """Return everything but the agent's networks."""
        state: dict[str, Any] = {
            "critic": network_state(self.critic),
            "critic_target": network_state(self.critic_target),
            "log_temperature": self.log_temperature.detach().cpu().numpy().copy(),
            "optimisers": {name: step.state() for name, step in self._steps().items()},
        }
        if self._comparable_target is not None:
            state["comparable_target"] = network_state(self._comparable_target)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; BadInput if it is of other networks."""
        restore_network(self.critic, state["critic"])
        restore_network(self.critic_target, state["critic_target"])
        if self._comparable_target is not None:
            restore_network(self._comparable_target, state["comparable_target"])
        with torch.no_grad():
            self.log_temperature.copy_(torch.tensor(state["log_temperature"]))
        for name, step in self._steps().items():
            step.restore(state["optimisers"][name])

    def _steps(self) -> dict[str, GuardedStep]:
        """Return the optimisers by name."""
        steps = {
            "critic": self._critic_step,
            "policy": self._policy_step,
            "temperature": self._temperature_step,
        }
        if self._comparable_step is not None:
            steps["comparable"] = self._comparable_step
        return steps
