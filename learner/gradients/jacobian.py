"""Every task's gradient of the trunk, which all tasks share, as the rows of one matrix.

Axes: C copies, N rows ordered by task, I inputs, O outputs, M tasks, P shared weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repertory.networks.actor_critic import ActorCritic
from repertory.networks.task_mlp import TaskMlp


class Partition(NamedTuple):
    """Which of a network's parameters are the trunk that all tasks share."""

    shared: tuple[bool, ...]
    """For each parameter, in the network's order."""
    last: slice
    """Columns, among the shared ones, of the last shared layer's weights."""


def partition(network: nn.Module) -> Partition:
    """Return what surgery acts on: the trunk, without heads, codes and embeddings.

    A head takes the gradient of the joint loss, also where there is one for all tasks.
    """
    parameters = list(network.parameters())
    match network:
        case TaskMlp():
            own = [network.code, network.head_weight, network.head_bias]
            last: nn.Parameter | None = network.weights[-1]
        case ActorCritic():
            own = [*network.policy.parameters(), *network.value.parameters()]
            if network.conditioning is not None:
                own.append(network.conditioning.embedding)
            last = None
        case _:
            raise ValueError(f"no tasks to tell apart in a {type(network).__name__}")
    apart = {id(parameter) for parameter in own}
    shared = tuple(id(parameter) not in apart for parameter in parameters)
    trunk = [p for p, common in zip(parameters, shared, strict=True) if common]
    if last is None:
        last = [p for p in trunk if p.dim() > 1][-1]
    start = sum(p.numel() for p in itertools.takewhile(lambda p: p is not last, trunk))
    return Partition(shared, slice(start, start + last.numel()))


class TaskOutputs(NamedTuple):
    """What a network says of every task's rows, and the way back to its weights."""

    outputs: Float[Tensor, "C N O"]
    """What losses read. A leaf where the tasks' gradients are kept apart, else a joint graph's."""
    pieces: tuple[Float[Tensor, "C R O"], ...]
    """Each task's own rows, out of a graph of its own; none where gradients come joined only."""


def outputs_by_task(network: TaskMlp, inputs: Float[Tensor, "N I"]) -> TaskOutputs:
    """Return outputs with a graph for each task.

    Losses are computed once, from the leaf that joins the outputs; each task's share of the
    leaf's gradient then goes back through the task's own graph. N backward passes through one
    joint graph would walk all rows N times.
    """
    pieces = tuple(
        output_of_task(network, rows, index)
        for index, rows in enumerate(inputs.chunk(network.tasks))
    )
    return TaskOutputs(torch.cat(pieces, 1).detach().requires_grad_(), pieces)


def output_of_task(
    network: TaskMlp, inputs: Float[Tensor, "R I"], index: int
) -> Float[Tensor, "C R O"]:
    """Return what the whole network says of rows of one task."""
    code = None if network.code is None else network.code[:, index].unsqueeze(1)
    hidden = network.trunk(inputs, code)
    head = index if network.head_weight.shape[1] > 1 else 0
    return torch.baddbmm(network.head_bias[:, head], hidden, network.head_weight[:, head])


class TaskGradients(NamedTuple):
    """Gradients of a joint loss that is the mean of M tasks' losses."""

    rows: Float[Tensor, "M P"]
    """Each task's gradient of its own loss: their mean is the joint gradient."""
    own: list[Tensor]
    """Joint gradients of the parameters that the tasks do not share, in their order."""


def task_gradients(
    pieces: Sequence[Sequence[Tensor]],
    cotangents: Sequence[Sequence[Tensor | None]],
    parameters: Sequence[Tensor],
    shared: Sequence[bool],
) -> TaskGradients:
    """Take each task's outputs back to the parameters.

    `pieces[i]` are task i's outputs and `cotangents[i]` the joint loss's gradients with respect
    to them, None where the loss does not depend on them; no outputs at all is a row of zeros.
    """
    tasks = len(pieces)
    common = [p for p, is_common in zip(parameters, shared, strict=True) if is_common]
    others = [p for p, is_common in zip(parameters, shared, strict=True) if not is_common]
    rows = common[0].new_empty(tasks, sum(p.numel() for p in common))
    own = [torch.zeros_like(p) for p in others]
    for row, outputs, gradients in zip(rows, pieces, cotangents, strict=True):
        used = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if gradient is not None
        ]
        if not used:
            row.zero_()
            continue
        found = torch.autograd.grad(
            [output for output, _ in used],
            [*common, *others],
            # The joint loss is the tasks' mean.
            [tasks * gradient for _, gradient in used],
            allow_unused=True,
        )
        of_common = [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(common, found[: len(common)], strict=True)
        ]
        torch.cat([gradient.reshape(-1) for gradient in of_common], out=row)
        for total, gradient in zip(own, found[len(common) :], strict=True):
            if gradient is not None:
                total.add_(gradient, alpha=1.0 / tasks)
    return TaskGradients(rows, own)


def assembled(
    direction: Float[Tensor, " P"],
    own: Sequence[Tensor],
    parameters: Sequence[Tensor],
    shared: Sequence[bool],
) -> list[Tensor]:
    """Return each parameter's gradient: cut from `direction` where shared, else out of `own`."""
    sizes = [p.numel() for p, common in zip(parameters, shared, strict=True) if common]
    parts, rest = iter(torch.split(direction, sizes)), iter(own)
    return [
        # Clipping and optimisers work in place, and want the parameter's own memory layout.
        torch.empty_like(p).copy_(next(parts).view(p.shape)) if common else next(rest)
        for p, common in zip(parameters, shared, strict=True)
    ]
