"""What actors of off-policy runs need, as one module: control policies, the guide, and its gates.

Axes: M tasks, J candidates a guide chooses among (the M tasks' policies, then experts'), N rows,
D numbers of an observation, O outputs of the actor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repertory.config import NetworkConfig, RunConfig, SacConfig, Td3Config
from repertory.errors import BadInput
from repertory.networks.experts import Experts
from repertory.networks.masked import MaskedMlp
from repertory.networks.masks import TaskMasks
from repertory.networks.task_mlp import TaskMlp
from repertory.types import TaskSpec


class ControlAgent(nn.Module):
    """The published half of an off-policy learner.

    `actor` gives (mean, log deviation) per action for SAC, the action before tanh for TD3. The
    rest is there only where acting needs it: `critic` (twin, online) for the policy filter and for
    QMP, `guide` (logits over candidates) and `comparable` (twin values of candidates in the units
    of the critic; for TD3 the guide's own Q) for CTPG. `experts` are candidates M and above; they
    travel with the rest and are never trained.
    """

    def __init__(self, tasks: Sequence[TaskSpec], config: RunConfig) -> None:
        super().__init__()
        algorithm = config.algorithm
        if not isinstance(algorithm, SacConfig | Td3Config):
            raise ValueError(f"a control agent needs sac or td3, got {algorithm.kind}")
        spec, action = tasks[0].observation, tasks[0].action
        guide = algorithm.guide
        if len(guide.expert_networks) != len(guide.experts):
            raise ValueError(
                f"guide.experts names {len(guide.experts)} runs and {len(guide.expert_networks)} "
                "were opened: experts are opened at launch"
            )
        self.tasks = len(tasks)
        self.candidate_names = guide.candidate_names([task.name for task in tasks])
        self.candidates = len(self.candidate_names)
        self.observation_size, self.action_size = spec.shape[0], action.size
        sac = isinstance(algorithm, SacConfig)
        network = config.network
        outputs = (2 if sac else 1) * self.action_size
        self.actor = _mlp(network, self.tasks, inputs=self.observation_size, outputs=outputs)
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
        self.experts = Experts(
            [
                _mlp(
                    expert.network,
                    len(expert.tasks),
                    inputs=self.observation_size,
                    outputs=outputs,
                )
                for expert in guide.expert_networks
            ]
        )

        self._masked: tuple[MaskedMlp | None, MaskedMlp | None] = (None, None)

    def wear(self, actor: TaskMasks, critic: TaskMasks | None = None) -> None:
        """Let `policies` and `values` be the tasks' sub-networks of the weights as they are now.

        To be called again when the weights have changed.
        """
        self._masked = (
            MaskedMlp(self.actor, actor),
            None if self.critic is None or critic is None else MaskedMlp(self.critic, critic),
        )

    def take_off(self) -> None:
        """Forget the masked weights, before there are others: both would be twice the memory."""
        self._masked = (None, None)

    @property
    def policies(self) -> TaskMlp | MaskedMlp:
        """Return the actor as tasks act with it: each by its sub-network where there are masks."""
        return self._masked[0] or self.actor

    @property
    def values(self) -> TaskMlp | MaskedMlp | None:
        """Return the critic as tasks see it; None where none travels with the agent."""
        return self._masked[1] or self.critic

    def outputs_of(
        self, observation: Float[Tensor, "N D"], candidate: Int[Tensor, " N"]
    ) -> Float[Tensor, "N O"]:
        """Return each row's outputs by the policy of its candidate."""
        lent = candidate >= self.tasks
        if not self.experts.policies or not bool(lent.any()):
            return self.policies.forward(observation, candidate)[0]
        outputs = self.policies.forward(observation, candidate.clamp(max=self.tasks - 1))[0]
        rows = lent.nonzero().squeeze(-1)
        outputs[rows] = self.experts.forward(observation[rows], candidate[rows] - self.tasks)
        return outputs

    def every_candidate(self, observation: Float[Tensor, "N D"]) -> Float[Tensor, "N J O"]:
        """Return every row's outputs by the policy of every candidate."""
        own = self.policies.every_task(observation)[0]
        if not self.experts.policies:
            return own
        return torch.cat([own, self.experts.every_policy(observation)], 1)


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
    """Draw every network inside `module` from one generator, in the order of definition.

    Frozen networks are left as they are: an expert's weights are those of its own run.
    """
    for part in module.modules():
        if isinstance(part, TaskMlp) and part.head_weight.requires_grad:
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
