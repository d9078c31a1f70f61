"""The guide beside TD3: a deep Q network over candidates, without entropies.

Axes: W windows, J candidates, M tasks.
"""

from __future__ import annotations

from typing import Any

import torch

from learner.guarded_step import GuardedStep, take_together
from learner.guide_batch import GuideBatch
from learner.guide_report import GuideReport
from learner.losses.guide import critic_rows, double_dqn_value
from learner.losses.windows import window_target
from learner.network_state import network_state, restore_network
from learner.target_networks import follow, target_of
from repertory.config import RunConfig, Td3Config
from repertory.networks.control_agent import ControlAgent


class DqnGuide:
    """Learns the agent's `comparable`, here the guide's own Q, by double Q-learning over windows.

    Without entropies its values are in the control critics' units as they are (He et al. 2024,
    section 5.3), so that one network both chooses and is filtered by.
    """

    needs_fresh_actions = False

    def __init__(self, agent: ControlAgent, config: RunConfig) -> None:
        algorithm = config.algorithm
        if not isinstance(algorithm, Td3Config) or agent.comparable is None:
            raise ValueError("a DQN guide needs td3 and an agent with a comparable critic")
        self._agent, self._algorithm = agent, algorithm
        self._quality = agent.comparable
        self._target = target_of(agent.comparable)
        self._step = GuardedStep(agent.comparable.parameters(), config.optimiser)

    def learn(self, batch: GuideBatch, progress: float) -> GuideReport | None:
        """Take one step, then move the target; None where something was not finite."""
        for network in (self._quality, self._target):
            network.number_format = self._agent.actor.number_format
        prepared = batch.prepared
        windows, counts = prepared.windows, prepared.counts
        with torch.no_grad():
            last = self._quality.of_counts(prepared.last, windows.task, counts)[0]
            valued = self._target.of_counts(prepared.last, windows.task, counts)[0]
            target = window_target(
                reward=self._algorithm.reward_scale * windows.reward,
                length=prepared.guide_length,
                ended=prepared.ended,
                bootstrap=double_dqn_value(online=last, target=valued),
                discount=self._algorithm.discount,
            )
        quality = self._quality.of_counts(prepared.first, windows.task, counts)
        rows = critic_rows(quality=quality, chosen=batch.reading.chosen, target=target)
        kept = batch.keeping(rows)
        loss = batch.mean(rows, kept)
        if not take_together([(self._step, loss)], progress):
            return None
        follow(self._target, self._quality, self._algorithm.target_step)
        nothing = torch.zeros_like(loss.detach())
        present = batch.counts > 0
        masked_out = (present & ~kept).sum() / present.sum().clamp(min=1)
        return GuideReport(loss.detach(), nothing, nothing, masked_out, torch.zeros_like(target))

    def metrics(self) -> dict[str, float]:
        """Return nothing: there are no temperatures."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return everything but the agent's network."""
        return {
            "target": network_state(self._target),
            "optimisers": {"quality": self._step.state()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; BadInput if it is of other networks."""
        restore_network(self._target, state["target"])
        self._step.restore(state["optimisers"]["quality"])
