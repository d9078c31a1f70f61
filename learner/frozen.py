"""Which parameters of a network are trained: all of them, or all but a frozen torso's."""

from __future__ import annotations

from torch import nn

from repertory.networks.actor_critic import ActorCritic
from repertory.networks.task_mlp import TaskMlp


def trained_parameters(network: nn.Module, *, frozen_torso: bool) -> list[nn.Parameter]:
    """Return a network's parameters in its order, without its torso's if that is frozen.

    What an optimiser is never given, no step, moment or decay can move. The torso of a `TaskMlp`
    is its hidden layers without the tasks' code, which new tasks are told apart by.
    """
    if not frozen_torso:
        return list(network.parameters())
    match network:
        case ActorCritic(torso=torso):
            # No gradient is computed for what does not move: half of an update, or more.
            torso.requires_grad_(False)
            frozen = list(torso.parameters())
        case TaskMlp(weights=weights, biases=biases):
            frozen = [*weights, *biases]
        case _:
            raise ValueError(f"a {type(network).__name__} has no torso to freeze")
    names = {id(parameter) for parameter in frozen}
    return [parameter for parameter in network.parameters() if id(parameter) not in names]
