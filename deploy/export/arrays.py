"""An agent's weights as named arrays and back, and as the learner's state that holds them.

Names are those of the networks' own parameters; beside them stand `critic.*` where actors need no
critic, `masks.<network>` as bits, and `guided_tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from deploy import build
from deploy.saved_agent import SavedAgent, SavedCritic
from learner.network_state import network_state, restore_network
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.masks import PackedMasks, masks_state
from repertory.networks.flat import load_vector, to_vector
from repertory.types import Weights

Arrays = dict[str, np.ndarray]

_CRITIC = "critic."
_MASKS = "masks."
_GUIDED = "guided_tasks"


def named_arrays(config: RunConfig, agent: SavedAgent) -> tuple[Arrays, dict[str, Any]]:
    """Return an agent's arrays by name, and what must be known of them beside their values."""
    network = _network(config)
    load_vector(network, agent.weights.vector)
    arrays: Arrays = {**network_state(network)["tensors"], **agent.statistics}
    masks = dict(zip(_masked(config), agent.weights.masks or (), strict=False))
    if agent.critic is not None:
        arrays |= {_CRITIC + name: np.array(array) for name, array in agent.critic.tensors.items()}
        if agent.critic.masks is not None:
            masks["critic"] = agent.critic.masks
    if agent.weights.guided is not None:
        arrays[_GUIDED] = agent.weights.guided
    arrays |= {_MASKS + name: packed.bits for name, packed in masks.items()}
    about = {
        "version": agent.weights.version,
        "env_steps": agent.env_steps,
        "checkpoint": agent.source,
        "masks": {
            name: {"version": packed.version, "weights": packed.weights}
            for name, packed in masks.items()
        },
    }
    return arrays, about


def agent_of(config: RunConfig, arrays: Mapping[str, np.ndarray], about: Any) -> SavedAgent:
    """Return the agent that `named_arrays` was given, weights equal to the bit.

    Raises:
        BadInput: the arrays are not of the network that the settings describe.
    """
    network = _network(config)
    own = network.state_dict().keys()
    rest = {name: array for name, array in arrays.items() if name not in own}
    critic = {name.removeprefix(_CRITIC): rest.pop(name) for name in list(rest) if _is_critic(name)}
    guided = rest.pop(_GUIDED, None)
    masks = {
        name: PackedMasks(int(known["version"]), rest.pop(_MASKS + name), int(known["weights"]))
        for name, known in about["masks"].items()
    }
    if rest:
        raise BadInput(f"an exported agent of these settings has no arrays {', '.join(rest)}")
    tensors = {name: arrays[name] for name in own if name in arrays}
    restore_network(network, {"description": "exported", "tensors": tensors})
    critic_masks = masks.pop("critic") if critic and "critic" in masks else None
    worn = tuple(masks[name] for name in _masked(config) if name in masks)
    weights = Weights(int(about["version"]), to_vector(network), guided, worn or None)
    return SavedAgent(
        weights,
        int(about["env_steps"]),
        str(about["checkpoint"]),
        SavedCritic(critic, critic_masks) if critic else None,
        {name: array for name, array in tensors.items() if array.dtype == np.float64},
    )


def learner_part(config: RunConfig, agent: SavedAgent) -> dict[str, Any]:
    """Return networks and masks as a learner's state has them, for a run that begins with them.

    Optimisers and targets are not there: an export holds what plays, not what goes on learning.
    """
    network = _network(config)
    load_vector(network, agent.weights.vector)
    masks = dict(zip(_masked(config), agent.weights.masks or (), strict=False))
    if not build.is_off_policy(config):
        own = network_state(network)
        part: dict[str, Any] = {
            "network": {**own, "tensors": {**own["tensors"], **agent.statistics}}
        }
        if "network" in masks:
            part["masks"] = {"masks": masks_state(masks["network"])}
        return part
    networks = {"agent": network_state(network)}
    if agent.critic is not None:
        networks["critic"] = {"description": "critic", "tensors": dict(agent.critic.tensors)}
        if agent.critic.masks is not None:
            masks["critic"] = agent.critic.masks
    part = {"networks": networks}
    if masks:
        part["masks"] = {name: {"masks": masks_state(one)} for name, one in masks.items()}
    return part


def _network(config: RunConfig) -> nn.Module:
    tasks = build.tasks_of(config)
    if build.is_off_policy(config):
        return build.control_agent(config, tasks)
    return build.network(config, tasks)


def _masked(config: RunConfig) -> tuple[str, ...]:
    """Return the networks that masks travel for, in their order."""
    return ("actor", "critic") if build.is_off_policy(config) else ("network",)


def _is_critic(name: str) -> bool:
    return name.startswith(_CRITIC)
