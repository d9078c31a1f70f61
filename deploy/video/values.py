"""What an agent expects of a moment: its value head's value, or its critics' at the greedy action.

Axes: L lanes, R recurrent state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Shaped

from deploy import build
from deploy.saved_agent import SavedAgent
from repertory.config import RunConfig
from repertory.networks.actor_critic import ActorCritic
from repertory.networks.control_agent import ControlAgent, build_critic, split_gaussian
from repertory.networks.flat import load_vector
from repertory.networks.guidance import join_copies
from repertory.networks.masked import MaskedActorCritic, MaskedMlp
from repertory.networks.masks import MaskReader
from repertory.networks.task_mlp import TaskMlp
from repertory.types import TaskSpec


@runtime_checkable
class Values(Protocol):
    """Whatever can value what is seen."""

    def of(
        self,
        stacked: Shaped[np.ndarray, "L *shape"],
        task: Int32[np.ndarray, " L"],
        recurrent: Float32[np.ndarray, "L R"],
        started: Bool[np.ndarray, " L"],
    ) -> Float32[np.ndarray, " L"]:
        """Return the value of each lane's observation, in the units of the rewards learnt from."""


class StateValues:
    """Values by the value head, un-normalised; PopArt's statistics are part of the weights."""

    def __init__(self, network: ActorCritic | MaskedActorCritic, head: ActorCritic) -> None:
        self._network, self._head = network, head.value

    def of(
        self,
        stacked: Shaped[np.ndarray, "L *shape"],
        task: Int32[np.ndarray, " L"],
        recurrent: Float32[np.ndarray, "L R"],
        started: Bool[np.ndarray, " L"],
    ) -> Float32[np.ndarray, " L"]:
        """Return V(s) of every lane; a task never trained on borrows another's statistics."""
        with torch.inference_mode():
            index = torch.from_numpy(task)
            age = torch.from_numpy(1 - started.astype(np.uint8)).unsqueeze(0)
            features = self._network.features(
                torch.from_numpy(stacked), age, index, torch.from_numpy(recurrent)
            )
            values: np.ndarray = self._head.values(features, index.expand(age.shape))[0].numpy()
            return values


class CriticValues:
    """Values by the smaller of the twin critics at the policy's greedy action."""

    def __init__(self, agent: ControlAgent, critic: TaskMlp | MaskedMlp) -> None:
        self._agent, self._critic = agent, critic

    def of(
        self,
        stacked: Shaped[np.ndarray, "L *shape"],
        task: Int32[np.ndarray, " L"],
        recurrent: Float32[np.ndarray, "L R"],
        started: Bool[np.ndarray, " L"],
    ) -> Float32[np.ndarray, " L"]:
        """Return min(Q1, Q2) of every lane; SAC's contain the entropy still to come."""
        del recurrent, started
        with torch.inference_mode():
            seen, index = torch.from_numpy(stacked), torch.from_numpy(task)
            outputs = self._agent.policies.forward(seen, index)[0]
            if self._agent.log_temperature is not None:
                outputs = split_gaussian(outputs)[0]
            inputs = torch.cat([seen, torch.tanh(outputs)], -1)
            twins = self._critic.forward(inputs, index)[..., 0]
            values: np.ndarray = join_copies(twins, "min").numpy()
            return values


def values_of(config: RunConfig, tasks: Sequence[TaskSpec], agent: SavedAgent) -> Values | None:
    """Return the values of an agent; None where its critics are not at hand."""
    if not build.is_off_policy(config):
        return _state_values(config, tasks, agent)
    control = build.control_agent(config, tasks).eval().requires_grad_(False)
    load_vector(control, agent.weights.vector)
    masks = agent.weights.masks
    if masks is not None:
        control.wear(MaskReader(control.actor, config.masks)(masks[0]))
    if control.critic is not None:
        critic = control.critic
        worn = None if masks is None else masks[1]
    elif agent.critic is not None:
        critic = build_critic(tasks, config.network)
        critic.load_state_dict(
            {name: torch.tensor(array) for name, array in agent.critic.tensors.items()}
        )
        worn = agent.critic.masks
    else:
        return None
    critic.eval().requires_grad_(False)
    if worn is None:
        return CriticValues(control, critic)
    return CriticValues(control, MaskedMlp(critic, MaskReader(critic, config.masks)(worn)))


def _state_values(config: RunConfig, tasks: Sequence[TaskSpec], agent: SavedAgent) -> StateValues:
    network = build.network(config, tasks).eval().requires_grad_(False)
    load_vector(network, agent.weights.vector)
    if agent.weights.masks is None:
        return StateValues(network, network)
    masks = MaskReader(network, config.masks)(agent.weights.masks[0])
    return StateValues(MaskedActorCritic(network, masks), network)
