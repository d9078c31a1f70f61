"""Task-wise gradients of an off-policy learner's parts, each with an optimiser of its own.

Axes: N rows ordered by task, I inputs, M tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from learner.gradients.aggregate import GradientSurgery
from learner.gradients.cosines import inner_products
from learner.gradients.jacobian import (
    Partition,
    TaskOutputs,
    assembled,
    outputs_by_task,
    partition,
    task_gradients,
)
from repertory.networks.task_mlp import TaskMlp


class PartGradients:
    """What the surgery needs to know of each part: its network, and what its tasks share."""

    def __init__(self, surgery: GradientSurgery) -> None:
        self.surgery = surgery
        self._partitions: dict[str, Partition] = {}

    def add(self, part: str, network: TaskMlp) -> None:
        """Make a network's parameters, in its own order, a part."""
        self._partitions[part] = partition(network)

    def outputs(
        self, part: str, network: TaskMlp, inputs: Float[Tensor, "N I"], version: int
    ) -> TaskOutputs:
        """Return what the losses of the update after `version` others are computed from."""
        if self.surgery.keeps_apart(part):
            return outputs_by_task(network, inputs)
        pieces: tuple[Tensor, ...] = ()
        if self.surgery.measures(version):
            pieces = outputs_by_task(network, inputs).pieces
        return TaskOutputs(network.grouped(inputs), pieces)

    def gradients(
        self,
        part: str,
        loss: Float[Tensor, ""],
        outputs: TaskOutputs,
        parameters: Sequence[Tensor],
        *,
        means: Float[Tensor, " M"],
        kept: Bool[Tensor, " M"],
        version: int,
    ) -> list[Tensor]:
        """Return a part's gradients by the run's method, and measure the tasks' where due.

        `loss` is the joint loss, of which the tasks' `means` that are `kept` make an M-th each.
        """
        apart = self.surgery.keeps_apart(part)
        if not outputs.pieces:
            return list(torch.autograd.grad(loss, parameters))
        sources = [outputs.outputs] if apart else [outputs.outputs, *parameters]
        cotangent, *joint = torch.autograd.grad(loss, sources)
        shared, last = self._partitions[part]
        rows, own = task_gradients(
            [(piece,) for piece in outputs.pieces],
            [(share,) for share in cotangent.chunk(len(outputs.pieces), 1)],
            parameters,
            shared,
        )
        if self.surgery.measures(version):
            self.surgery.measure(part, inner_products(rows))
        if not apart:
            return joint
        direction = self.surgery.direction(part, rows, kept=kept, losses=means, last=last)
        return assembled(direction, own, parameters, shared)
