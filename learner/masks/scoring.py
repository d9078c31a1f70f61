"""One batch's gradients under each task's mask and of the whole network, a task at a time.

Each task's rows go through a graph of their own: as many passes back through one joint graph would
walk all rows that often.

Axes: C copies, N rows ordered by task, I inputs, O outputs, M tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from learner.batches import TensorBatch, columns_of
from learner.gradients.jacobian import output_of_task
from learner.masks.gradients import TaskGradients, task_gradient
from repertory.masks import MaskLayout
from repertory.networks.masked import MaskedMlp
from repertory.networks.masks import TaskMasks
from repertory.networks.task_mlp import TaskMlp
from repertory.types import Unroll

Rows = Mapping[str, Any]
"""What a batch's losses are computed from, as a checkpoint can hold it; off policy among it
`inputs`, the network's, and `kept`, the tasks that count.
"""
Losses = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""The tasks' losses [M] of a network's outputs [C, N, O] and of rows as tensors."""
OfTask = Callable[[int, bool], TaskGradients]
"""A task's gradients; unless both are asked for, the masked one stands for the full one too."""


class MlpGradients:
    """The tasks' gradients in one batch of replayed rows; zeros for tasks that are not kept.

    With `hold` the tasks' graphs are kept from when the losses were computed; else they are built
    again one by one, so that memory does not grow with tasks.
    """

    def __init__(
        self,
        network: TaskMlp,
        masks: TaskMasks,
        rows: Mapping[str, Tensor],
        losses: Losses,
        *,
        hold: bool,
    ) -> None:
        self._network, self._masks, self._rows, self._losses = network, masks, rows, losses
        self._inputs = rows["inputs"].chunk(network.tasks)
        self._hold = hold
        self._pieces: dict[bool, list[Tensor]] = {}
        self._shares: dict[bool, tuple[Tensor, ...]] = {}

    def __call__(self, task: int, full: bool) -> TaskGradients:
        """Return a task's gradients."""
        masked = self._gradient(task, whole=False)
        return TaskGradients(masked, self._gradient(task, whole=True) if full else masked)

    def _gradient(self, task: int, *, whole: bool) -> Float[Tensor, "C P"]:
        if whole not in self._shares:
            self._shares[whole] = self._cotangents(whole)
        if self._hold:
            # Given up as it is used: its graph is consumed.
            piece = self._pieces[whole][task]
        else:
            piece = self._output(task, whole)
        loss = (piece * self._shares[whole][task]).sum()
        return task_gradient(loss, self._network, self._masks.layout)

    def _cotangents(self, whole: bool) -> tuple[Tensor, ...]:
        """Return the losses' gradients with respect to each task's outputs."""
        tasks = range(self._network.tasks)
        if self._hold:
            pieces = self._pieces[whole] = [self._output(task, whole) for task in tasks]
        else:
            with torch.no_grad():
                pieces = [self._output(task, whole) for task in tasks]
        outputs = torch.cat(pieces, 1).detach().requires_grad_()
        loss = torch.where(self._rows["kept"], self._losses(outputs, self._rows), 0.0).sum()
        (cotangent,) = torch.autograd.grad(loss, outputs)
        return cotangent.chunk(len(pieces), 1)

    def _output(self, task: int, whole: bool) -> Float[Tensor, "C R O"]:
        if whole:
            return output_of_task(self._network, self._inputs[task], task)
        # A new one each time: it keeps the masked weights of every task that it was asked for.
        return MaskedMlp(self._network, self._masks).of_task(task, self._inputs[task])


class UnrollTaskGradients:
    """The tasks' gradients in one batch of unrolls, each of the losses of its own columns.

    Zeros for tasks without any.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: MaskLayout,
        rows: Rows,
        *,
        receive: Callable[[Unroll], TensorBatch],
        masked: Callable[[TensorBatch], Tensor],
        whole: Callable[[TensorBatch], Tensor],
    ) -> None:
        self._network, self._layout, self._rows = network, layout, rows
        self._receive, self._masked, self._whole = receive, masked, whole

    def __call__(self, task: int, full: bool) -> TaskGradients:
        """Return a task's gradients."""
        columns = np.flatnonzero(self._rows["task"] == task)
        if not len(columns):
            parameter = next(self._network.parameters())
            nothing = parameter.new_zeros(self._layout.copies, self._layout.total)
            return TaskGradients(nothing, nothing)
        part = self._receive(columns_of(self._rows, columns))
        own = task_gradient(self._masked(part), self._network, self._layout)
        if not full:
            return TaskGradients(own, own)
        return TaskGradients(own, task_gradient(self._whole(part), self._network, self._layout))
