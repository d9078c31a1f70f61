"""Cross-Task Policy Guidance's choice: a learned guide's, among the policies worth following.

Axes: N rows whose choice is due, J candidates, S sampled actions, D numbers of an observation,
C copies of a network, I inputs, O outputs.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from torch import Tensor

from actors.control_policy import ControlPolicy
from repertory.config import GuideConfig
from repertory.networks.guidance import (
    best_or_any,
    draw_candidate,
    join_copies,
    policy_filter,
    restrict,
    selectable,
    value_of_own_policy,
)
from repertory.networks.masked import MaskedMlp
from repertory.networks.task_mlp import TaskMlp
from repertory.ports import State
from repertory.types import GuidanceCounts, StepResult


class CtpgChooser:
    """Draws from the guide's distribution behind the policy filter (He et al. 2024, 7, 11, 12, 20).

    For SAC the guide is a categorical policy; for TD3 it is a DQN, followed epsilon-greedily. The
    filter sets in at version `filter_from`. SAC joins its twin critics as `filter_twins` says, on
    both sides of the comparison; TD3 has one guide critic, held against the smaller of the twins'
    values of its own action.
    """

    def __init__(
        self, control: ControlPolicy, guide: GuideConfig, generator: np.random.Generator
    ) -> None:
        self._control = control
        self._settings = guide
        self._generator = generator
        self._counts = GuidanceCounts.zeros(control.agent.tasks)

    def choose(
        self,
        observation: Float32[np.ndarray, "N D"],
        task: Int32[np.ndarray, " N"],
        lane: Int64[np.ndarray, " N"],
    ) -> Int32[np.ndarray, " N"]:
        """Return a candidate for each row, all of them in one batch through the networks."""
        del lane
        np.add.at(self._counts.choices, task, 1)
        agent, settings = self._control.agent, self._settings
        with torch.inference_mode():
            seen, index = torch.from_numpy(observation), torch.from_numpy(task)
            comparable = (
                None if agent.comparable is None else _evaluate(agent.comparable, seen, index)
            )
            among = self._selectable(seen, index, comparable)
            if agent.guide is not None:
                logits = restrict(_evaluate(agent.guide, seen, index)[0], among)
                return draw_candidate(logits.numpy(), self._generator).astype(np.int32)
            if comparable is None:
                raise ValueError("the agent has neither guide nor comparable values to choose by")
            values = join_copies(comparable, "mean").numpy()
            chosen = best_or_any(values, among.numpy(), settings.exploration, self._generator)
            return chosen.astype(np.int32)

    def _selectable(
        self, seen: Tensor, task: Tensor, comparable: Tensor | None
    ) -> Bool[Tensor, "N J"]:
        settings = self._settings
        everything = torch.ones(len(task), self._control.agent.candidates, dtype=torch.bool)
        active = settings.policy_filter != "off" and self._control.version >= settings.filter_from
        if not active or comparable is None:
            return everything
        values = join_copies(comparable, settings.filter_twins)
        passed = policy_filter(values, self.own_value(seen, task))
        counts, rows = self._counts, task.numpy()
        followable = passed.sum(-1).numpy()
        np.add.at(counts.candidates, rows, passed.shape[1])
        np.add.at(counts.passed, rows, followable)
        np.add.at(counts.fallbacks, rows[followable == 0], 1)
        return selectable(passed, task, settings.policy_filter)

    def own_value(
        self, observation: Float[Tensor, "N D"], task: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """Estimate each row's value under its task's own policy (equation 20)."""
        agent, settings = self._control.agent, self._settings
        critic = agent.values
        assert critic is not None
        noise = None
        if agent.log_temperature is not None:
            noise = self._control.noise(settings.filter_samples, len(task))
        return value_of_own_policy(
            agent,
            partial(_evaluate, critic),
            observation,
            task,
            noise=noise,
            twins=settings.filter_twins,
        )

    def observe(
        self,
        result: StepResult,
        task: Int32[np.ndarray, " L"],
        guide: Int32[np.ndarray, " L"],
    ) -> None:
        """Look away."""

    def counts(self) -> GuidanceCounts | None:
        """Return the choices since the last call, and what the policy filter made of them."""
        counts, self._counts = self._counts, GuidanceCounts.zeros(len(self._counts.choices))
        return counts

    def state(self) -> State:
        """Return nothing: whoever plays takes the counts away before a state is saved."""
        return {}

    def restore(self, state: State) -> None:
        """Do nothing."""


def _evaluate(
    network: TaskMlp | MaskedMlp, inputs: Float[Tensor, "N I"], task: Int[Tensor, " N"]
) -> Float[Tensor, "C N O"]:
    """Return the outputs of rows of their tasks.

    Lanes of one worker mostly play every task, in order, and start together: then every task's
    head is one product, where heads gathered row by row cost as much as a layer. Under masks rows
    go task by task either way, and grouped ones would have weights masked anew at every choice.
    """
    if isinstance(network, MaskedMlp):
        return network.forward(inputs, task)
    each, rest = divmod(len(task), network.tasks)
    if rest == 0 and torch.equal(task.long(), torch.arange(network.tasks).repeat_interleave(each)):
        return network.grouped(inputs)
    return network.forward(inputs, task)
