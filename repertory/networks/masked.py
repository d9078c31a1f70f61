"""Networks whose rows are each computed by the sub-network of their own task.

Masked weights are built when these are: with gradients, one backward of one loss over all tasks
gives the sum of the tasks' masked gradients; without, actors build them once per version.

Axes: C copies, N rows, M tasks, I inputs, O outputs; L lanes, T1 = T + 1 steps, B columns, H
observations of history, R recurrent state (or rows of one task), F features, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8
from torch import Tensor, nn
from torch.func import functional_call

from repertory.networks.actor_critic import ActorCritic
from repertory.networks.masks import TaskMasks
from repertory.networks.products import masked_relu_layer, prefers_onednn
from repertory.networks.task_mlp import TaskMlp


class MaskedMlp:
    """A `TaskMlp` under masks: the same four ways to ask it, a loop over the tasks' sub-networks.

    A loop, since a stack of all tasks' weights is no faster at 400 hidden units and half as fast at
    1900. Weights are read once per task, so that fewer than some 64 rows of a task cost more than
    their products.
    """

    def __init__(self, network: TaskMlp, masks: TaskMasks) -> None:
        _check(masks, network.tasks)
        self.network, self.masks, self.tasks = network, masks, network.tasks
        form = network.number_format
        # One cast for all tasks; a product with zeros and ones is exact in any format.
        self._weights = [
            weight if index == 0 else weight.to(form)
            for index, weight in enumerate(network.weights)
        ]
        # unbind, not an index: its gradient is one stack, not a sum of padded copies.
        self._codes = None if network.code is None else network.code.unbind(1)
        self._head_weights = network.head_weight.unbind(1)
        self._head_biases = network.head_bias.unbind(1)
        self._trunks: dict[int, list[Tensor]] = {}

    def forward(
        self, inputs: Float[Tensor, "N I"], task: Int[Tensor, " N"]
    ) -> Float[Tensor, "C N O"]:
        """Return outputs of rows in any order; see `TaskMlp.forward`."""
        return _by_task(task, lambda index, rows: self.of_task(index, inputs[rows]), axis=1)

    def grouped(self, inputs: Float[Tensor, "N I"]) -> Float[Tensor, "C N O"]:
        """Return outputs of rows that are ordered by task, N/M of each."""
        network = self.network
        parts = inputs.view(network.tasks, -1, inputs.shape[1]).unbind(0)
        products = [
            network.first(part, [self._weights[0] * self._mask(0, task)])
            for task, part in enumerate(parts)
        ]
        hidden = network.first_of_groups(torch.cat(products, 1))
        form = self._weights[-1].dtype
        if prefers_onednn(hidden[:, : parts[0].shape[0]].to(form), hidden.shape[-1]):
            hidden = self._layer_by_layer(hidden)
        else:
            of_tasks = torch.split(hidden, parts[0].shape[0], 1)
            rest = [network.rest(part, self._trunk(task)) for task, part in enumerate(of_tasks)]
            hidden = torch.cat(rest, 1)
        return network.heads_of_groups(hidden)

    def _layer_by_layer(self, hidden: Float[Tensor, "C N H"]) -> Float[Tensor, "C N H"]:
        """Return the last hidden layer, all tasks' rows through one layer after the other."""
        copies = list(hidden.to(self._weights[-1].dtype).unbind(0))
        for index, weight in enumerate(self._weights[1:], 1):
            masks = [self._mask(index, task) for task in range(self.network.tasks)]
            biases = self.network.biases[index].to(weight.dtype).squeeze(1).unbind(0)
            parts = zip(copies, weight.unbind(0), biases, strict=True)
            copies = [masked_relu_layer(*part, masks) for part in parts]
        return torch.stack(copies).to(hidden.dtype)

    def of_counts(
        self, inputs: Float[Tensor, "N I"], task: Int[Tensor, " N"], counts: Sequence[int]
    ) -> Float[Tensor, "C N O"]:
        """Return outputs of rows that are ordered by task, counts[i] of task i (0 allowed)."""
        assert task.shape[0] == sum(counts)
        return self._parts(torch.split(inputs, list(counts)))

    def every_task(self, inputs: Float[Tensor, "N I"]) -> Float[Tensor, "C N M O"]:
        """Return the outputs of every row by the sub-network of every task."""
        return torch.stack([self.of_task(i, inputs) for i in range(self.network.tasks)], 2)

    def of_task(self, task: int, inputs: Float[Tensor, "R I"]) -> Float[Tensor, "C R O"]:
        """Return the outputs of rows of one task."""
        network = self.network
        known = 0 <= task < network.tasks
        code = None
        if self._codes is not None and known:
            code = self._codes[task].unsqueeze(1)
        hidden = network.trunk(inputs, code, self._trunk(task))
        head = min(max(task, 0), len(self._head_weights) - 1)
        return torch.baddbmm(self._head_biases[head], hidden, self._head_weights[head])

    def _parts(self, parts: Sequence[Tensor]) -> Tensor:
        outputs = [self.of_task(task, part) for task, part in enumerate(parts) if part.shape[0]]
        return torch.cat(outputs, 1)

    def _trunk(self, task: int) -> list[Tensor]:
        row = self.masks.row(task)
        if row not in self._trunks:
            self._trunks[row] = [
                weight * self._mask(index, task) for index, weight in enumerate(self._weights)
            ]
        return self._trunks[row]

    def _mask(self, index: int, task: int) -> Tensor:
        return self.masks.of(f"weights.{index}", task).to(self._weights[index].dtype)


class MaskedActorCritic:
    """An `ActorCritic` under masks: each column, or lane, by its task's sub-network."""

    def __init__(self, network: ActorCritic, masks: TaskMasks) -> None:
        _check(masks, network.tasks)
        self.network, self.masks = network, masks
        self._parameters: dict[int, dict[str, Tensor]] = {}

    def act(
        self,
        stacked: Shaped[Tensor, "L *shape"],
        task: Int[Tensor, " L"],
        recurrent: Float[Tensor, "L R"],
        started: Bool[Tensor, " L"],
    ) -> tuple[Float32[Tensor, "L A"], Float32[Tensor, "L R"]]:
        """Return logits and the next recurrent state of every lane; see `ActorCritic.act`."""

        def act(index: int, lanes: Tensor) -> Tensor:
            arguments = (stacked[lanes], task[lanes], recurrent[lanes], started[lanes])
            return torch.cat(self._call(index, "act", *arguments), -1)

        joined = _by_task(task, act, axis=0)
        actions = joined.shape[-1] - recurrent.shape[-1]
        return joined[:, :actions], joined[:, actions:]

    def features(
        self,
        stacked: Shaped[Tensor, "N *stacked"],
        age: UInt8[Tensor, "T1 B"],
        task: Int[Tensor, " B"],
        recurrent: Float[Tensor, "B R"],
    ) -> Float32[Tensor, "T1 B F"]:
        """Return what the heads, which all tasks own, read; see `ActorCritic.features`."""
        by_step = stacked.view(*age.shape, *stacked.shape[1:])

        def features(index: int, columns: Tensor) -> Tensor:
            rows = by_step[:, columns].flatten(0, 1)
            arguments = (rows, age[:, columns], task[columns], recurrent[columns])
            result: Tensor = self._call(index, "features", *arguments)
            return result

        return _by_task(task, features, axis=1)

    def unroll(
        self,
        observation: Shaped[Tensor, "HT1 B *shape"],
        age: UInt8[Tensor, "T1 B"],
        task: Int[Tensor, " B"],
        recurrent: Float[Tensor, "B R"],
    ) -> tuple[Float32[Tensor, "T1 B A"], Float32[Tensor, "T1 B"]]:
        """Return logits and un-normalised values at every step of an unroll."""
        network = self.network
        features = self.features(network.rebuild(observation, age), age, task, recurrent)
        return network.policy(features), network.value.values(features, task.expand(age.shape))

    def _call(self, task: int, method: str, *arguments: Tensor) -> Any:
        row = self.masks.row(task)
        if row not in self._parameters:
            masked = self.masks.masked(self.network, task)
            self._parameters[row] = {f"network.{name}": value for name, value in masked.items()}
        return functional_call(_Method(self.network, method), self._parameters[row], arguments)


class _Method(nn.Module):
    """A network's method as a module's forward, which is all that `functional_call` calls."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self._method = network, method

    def forward(self, *arguments: Tensor) -> Any:
        return getattr(self.network, self._method)(*arguments)


def _check(masks: TaskMasks, tasks: int) -> None:
    if masks.tasks != tasks:
        raise ValueError(f"masks of {masks.tasks} tasks do not fit a network of {tasks}")


def _by_task(task: Tensor, compute: Callable[[int, Tensor], Tensor], *, axis: int) -> Tensor:
    """Return compute(index, positions) of every task that occurs, put back in the order given."""
    order = torch.argsort(task, stable=True)
    present, counts = torch.unique_consecutive(task[order], return_counts=True)
    parts = zip(present.tolist(), torch.split(order, counts.tolist()), strict=True)
    joined = torch.cat([compute(index, positions) for index, positions in parts], axis)
    return joined.index_select(axis, torch.argsort(order))
