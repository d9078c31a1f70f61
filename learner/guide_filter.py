"""How much the policy filter keeps out, seen on states the learner has at hand.

Axes: C critics, S actions sampled per state, N states, J candidates, D numbers of an observation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repertory.networks.control_agent import ControlAgent
from repertory.networks.guidance import Twins, join_copies, policy_filter, value_of_own_policy
from repertory.networks.masked import MaskedMlp
from repertory.networks.task_mlp import TaskMlp

STATES = 64
"""So few of a batch's states are looked at: shares need no more, and critics cost."""


class Filtered(NamedTuple):
    """Shares over the states looked at."""

    candidates: Float[Tensor, ""]
    """Candidates that do not pass."""
    states: Float[Tensor, ""]
    """States where none passes, and the task's own policy acts."""


@torch.no_grad()
def filtered(
    agent: ControlAgent,
    critic: TaskMlp | MaskedMlp,
    observation: Float[Tensor, "N D"],
    task: Int[Tensor, " N"],
    *,
    samples: int,
    twins: Twins,
    generator: torch.Generator,
) -> Filtered:
    """Return what the filter keeps out at these states (He et al. 2024, equations 11 and 20)."""
    if agent.comparable is None:
        raise ValueError("there is no filter without a comparable critic")
    noise = None
    if agent.log_temperature is not None:
        noise = torch.randn(
            (samples, len(task), agent.action_size),
            generator=generator,
            device=observation.device,
            dtype=observation.dtype,
        )
    own = value_of_own_policy(agent, critic.forward, observation, task, noise=noise, twins=twins)
    passed = policy_filter(join_copies(agent.comparable(observation, task), twins), own)
    return Filtered((~passed).float().mean(), (~passed.any(-1)).float().mean())
