"""What actors of off-policy runs need, as one module: control policies, the guide, and its gates.

Axes: M tasks, J candidates a guide chooses among (the M tasks' policies, then experts').
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from repertory.config import NetworkConfig, RunConfig, SacConfig, Td3Config
from repertory.errors import BadInput
from repertory.networks.task_mlp import TaskMlp
from repertory.types import TaskSpec


class ControlAgent(nn.Module):
    """The published half of an off-policy learner.

    `actor` gives (mean, log deviation) per action for SAC, the action before tanh for TD3. The
    rest is there only where acting needs it: `critic` (twin, online) for the policy filter and for
    QMP, `guide` (logits over candidates) and `comparable` (twin values of candidates in the units
    of the critic; for TD3 the guide's own Q) for CTPG.
    """

    def __init__(self, tasks: Sequence[TaskSpec], config: RunConfig) -> None:
        super().__init__()
        algorithm = config.algorithm
        if not isinstance(algorithm, SacConfig | Td3Config):
            raise ValueError(f"a control agent needs sac or td3, got {algorithm.kind}")
        spec, action = tasks[0].observation, tasks[0].action
        self.tasks, self.candidates = len(tasks), len(tasks)
        self.observation_size, self.action_size = spec.shape[0], action.size
        sac = isinstance(algorithm, SacConfig)
        network, guide = config.network, algorithm.guide
        self.actor = _mlp(
            network,
            self.tasks,
            inputs=self.observation_size,
            outputs=(2 if sac else 1) * self.action_size,
        )
        self.log_temperature = (
            nn.Parameter(torch.full((self.tasks,), math.log(algorithm.temperature)))
            if isinstance(algorithm, SacConfig)
            else None
        )
        filtering = guide.kind == "ctpg" and guide.policy_filter != "off"
        self.critic = build_critic(tasks, network) if filtering or guide.kind == "qmp" else None
        self.guide = (
            guide_network(self, network, copies=1) if guide.kind == "ctpg" and sac else None
        )
        needs_values = filtering or not sac
        self.comparable = (
            guide_network(self, network, copies=2 if sac else 1)
            if guide.kind == "ctpg" and needs_values
            else None
        )


def _mlp(
    network: NetworkConfig, tasks: int, *, inputs: int, outputs: int, copies: int = 1
) -> TaskMlp:
    return TaskMlp(
        inputs,
        outputs,
        tasks=tasks,
        hidden=network.hidden,
        layers=network.layers,
        one_hot=network.conditioning == "one_hot",
        per_task_heads=network.heads == "per_task",
        copies=copies,
    )


def build_critic(tasks: Sequence[TaskSpec], network: NetworkConfig) -> TaskMlp:
    """Return twin Q networks that read (observation, action); weights not drawn yet."""
    spec, action = tasks[0].observation, tasks[0].action
    inputs = spec.shape[0] + action.size
    return _mlp(network, len(tasks), inputs=inputs, outputs=1, copies=2)


def guide_network(agent: ControlAgent, network: NetworkConfig, *, copies: int) -> TaskMlp:
    """Return a network from observations to one number per candidate; weights not drawn yet.

    Multi-head with the one-hot code as well, whatever the control networks are (the released code
    of He et al. 2024).
    """
    return TaskMlp(
        agent.observation_size,
        agent.candidates,
        tasks=agent.tasks,
        hidden=network.hidden,
        layers=network.layers,
        one_hot=True,
        per_task_heads=True,
        copies=copies,
    )


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every network inside `module` from one generator, in the order of definition."""
    for part in module.modules():
        if isinstance(part, TaskMlp):
            part.initialise(generator)


def build_agent(tasks: Sequence[TaskSpec], config: RunConfig, seed: int) -> ControlAgent:
    """Return the agent of these tasks, its weights drawn from `seed` alone.

    Raises:
        BadInput: tasks differ in observation or action sizes, or do not fit the algorithm.
    """
    first = tasks[0]
    for task in tasks:
        if (task.observation, task.action) != (first.observation, first.action):
            raise BadInput(
                f"one network plays all tasks, but {task.name} has {task.observation} and "
                f"{task.action} where {first.name} has {first.observation} and {first.action}"
            )
    if first.action.kind != "box" or len(first.observation.shape) != 1:
        raise BadInput(
            f"algorithm.kind {config.algorithm.kind} needs vector observations and continuous "
            f"actions, but {first.name} has observations of shape {first.observation.shape} and "
            f"{first.action.kind} actions"
        )
    agent = ControlAgent(tasks, config)
    initialise(agent, torch.Generator().manual_seed(seed))
    return agent


def split_gaussian(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log deviation, the latter cut to [-20, 2] (Haarnoja et al. 2018)."""
    mean, log_deviation = outputs.chunk(2, dim=-1)
    return mean, log_deviation.clamp(-20.0, 2.0)
