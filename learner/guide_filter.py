"""How much the policy filter keeps out, seen on states the learner has at hand.

Axes: C critics, S actions sampled per state, N states, J candidates, D numbers of an observation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learner.losses.gaussian import draw
from repertory.networks.control_agent import ControlAgent, split_gaussian
from repertory.networks.guidance import Twins, join_copies, own_value, policy_filter
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
    outputs = agent.policies.forward(observation, task)[0]
    if agent.log_temperature is None:
        action = torch.tanh(outputs).unsqueeze(0)
        log_probability = action.new_zeros(action.shape[:2])
        temperature = log_probability[0]
    else:
        mean, log_deviation = (part.expand(samples, -1, -1) for part in split_gaussian(outputs))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        action, log_probability = draw(mean, log_deviation, noise)
        temperature = agent.log_temperature.exp()[task.long()]
    count = action.shape[0]
    inputs = torch.cat([observation.expand(count, -1, -1), action], -1).flatten(0, 1)
    # As actors do: TD3 holds candidates against the smaller of the twins.
    joined = "min" if agent.log_temperature is None else twins
    quality = join_copies(critic.forward(inputs, task.repeat(count)).squeeze(-1), joined)
    own = own_value(quality.view(count, -1), log_probability, temperature)
    passed = policy_filter(join_copies(agent.comparable(observation, task), twins), own)
    return Filtered((~passed).float().mean(), (~passed.any(-1)).float().mean())
