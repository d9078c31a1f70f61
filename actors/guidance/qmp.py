"""Q-switch Mixture of Policies: the candidate whose action the task's own critic values most.

Axes: N rows whose choice is due, J candidates, D numbers of an observation.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64

from actors.control_policy import ControlPolicy
from repertory.networks.guidance import join_copies
from repertory.ports import State
from repertory.types import GuidanceCounts, StepResult


class QmpChooser:
    """Scores one sampled action per candidate with min(Q1, Q2) of the task's own critic.

    Zhang et al. 2025 ("QMP: Q-switch Mixture of Policies"), without the entropy term, as their
    released batch path does. Ties go to the lowest index.
    """

    def __init__(self, control: ControlPolicy) -> None:
        if control.agent.critic is None:
            raise ValueError("qmp compares actions by the critic, which this agent has not")
        self._control = control

    def choose(
        self,
        observation: Float32[np.ndarray, "N D"],
        task: Int32[np.ndarray, " N"],
        lane: Int64[np.ndarray, " N"],
    ) -> Int32[np.ndarray, " N"]:
        """Return the best candidate of each row, all of them in one batch."""
        del lane
        agent = self._control.agent
        with torch.inference_mode():
            seen, index = torch.from_numpy(observation), torch.from_numpy(task)
            outputs = agent.every_candidate(seen)
            action = self._control.sample(outputs, draws=1).action[0]
            candidates = action.shape[1]
            rows = torch.cat([seen.unsqueeze(1).expand(-1, candidates, -1), action], -1)
            critic = agent.values
            assert critic is not None
            twins = critic.forward(rows.flatten(0, 1), index.repeat_interleave(candidates))
            value = join_copies(twins[..., 0], "min").view(-1, candidates)
            best: np.ndarray = value.argmax(-1).numpy()
            return best.astype(np.int32)

    def observe(
        self,
        result: StepResult,
        task: Int32[np.ndarray, " L"],
        guide: Int32[np.ndarray, " L"],
    ) -> None:
        """Look away."""

    def counts(self) -> GuidanceCounts | None:
        """Return nothing: whose policy acted is in every unroll."""
        return None

    def state(self) -> State:
        """Return nothing: there is nothing to go on with."""
        return {}

    def restore(self, state: State) -> None:
        """Do nothing."""
