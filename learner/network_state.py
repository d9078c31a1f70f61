"""A network's tensors as arrays for a checkpoint, and back, refusing another architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from repertory.errors import BadInput
from repertory.networks.actor_critic import ActorCritic, describe

SHOWN = 3


def network_state(network: nn.Module) -> dict[str, Any]:
    """Return parameters and buffers by name, with the network's description."""
    tensors = {
        name: np.ascontiguousarray(tensor.detach().cpu().numpy()).copy()
        for name, tensor in network.state_dict().items()
    }
    return {"description": _description(network), "tensors": tensors}


def restore_network(network: nn.Module, state: dict[str, Any]) -> None:
    """Copy a state into a network; BadInput names both and what differs if it does not fit."""
    own = network.state_dict()
    given = state["tensors"]
    differences = [
        f"{name} is {_shape(given, name)} there and {_shape(own, name)} here"
        for name in sorted(own.keys() | given.keys())
        if _shape(own, name) != _shape(given, name)
    ]
    if differences:
        shown = "; ".join(differences[:SHOWN])
        more = len(differences) - SHOWN
        raise BadInput(
            f"the checkpoint holds another network ({state['description']}) than this run's "
            f"({_description(network)}): {shown}" + (f"; and {more} more" if more > 0 else "")
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.tensor(given[name]))


def _description(network: nn.Module) -> str:
    """Return the network in one line."""
    if isinstance(network, ActorCritic):
        return describe(network)[1]
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"{type(network).__name__} of {count:,} parameters"


def _shape(tensors: dict[str, Any], name: str) -> str:
    """Return the shape of a tensor as text, or that there is none."""
    return str(tuple(tensors[name].shape)) if name in tensors else "absent"
