"""Task-wise gradients of an actor-critic network that learns from unrolls.

Axes: T steps, T1 = T + 1 observations, B columns, A actions, F features, M tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from learner.actor_critic_update import LossOutput
from learner.batches import TensorBatch
from learner.gradients.aggregate import GradientSurgery
from learner.gradients.cosines import inner_products
from learner.gradients.jacobian import assembled, partition, task_gradients
from learner.popart import sums_per_task
from repertory.networks.actor_critic import ActorCritic


class UnrollOutputs(NamedTuple):
    """What a loss reads of a network."""

    features: Float[Tensor, "T1 B F"]
    logits: Float[Tensor, "T B A"]
    value: Float[Tensor, "T1 B"]
    """Un-normalised."""


class TaskLosses(NamedTuple):
    """Each task's critic loss, and which tasks have any."""

    losses: Float[Tensor, " M"]
    kept: Bool[Tensor, " M"]


def value_losses(
    rows: Float[Tensor, "T B"], valid: Bool[Tensor, "T B"], task: Int[Tensor, " B"], tasks: int
) -> TaskLosses:
    """Return the mean of each task's valid value rows (the others are 0)."""
    columns = torch.stack([rows.detach().sum(0), valid.sum(0).to(rows.dtype)], -1)
    total, count = sums_per_task(columns, task, tasks).unbind(-1)
    return TaskLosses(total / count.clamp(min=1.0), count > 0)


class UnrollGradients:
    """Leaves the gradients of a run's method in the parameters, and measures the tasks'.

    Surgery is on the trunk: torso, mixing layer and memory. Heads take the joint gradient.
    """

    def __init__(
        self,
        network: ActorCritic,
        parameters: Sequence[nn.Parameter],
        surgery: GradientSurgery,
        *,
        evaluate: Callable[[TensorBatch], UnrollOutputs],
        loss: Callable[[TensorBatch, UnrollOutputs], LossOutput],
    ) -> None:
        self._parameters, self._surgery = list(parameters), surgery
        self._tasks = network.tasks
        self._shared, self._last = partition(network)
        self._evaluate, self._loss = evaluate, loss

    def __call__(self, batch: TensorBatch, task: np.ndarray, version: int) -> LossOutput:
        """Return the loss of the update after `version` others; `task` is [B], the columns'.

        The network sees each task's columns by themselves, the loss all of them at once.
        """
        columns = [np.flatnonzero(task == index) for index in range(self._tasks)]
        index = [torch.from_numpy(each).to(batch.task.device) for each in columns]
        seen = [each for each in index if each.numel()]
        pieces = [self._evaluate(batch.columns(each)) for each in seen]
        order = torch.cat(seen).argsort()
        leaves = UnrollOutputs(
            *(
                torch.cat(parts, 1)[:, order].detach().requires_grad_()
                for parts in zip(*pieces, strict=True)
            )
        )
        output = self._loss(batch, leaves)
        own = [p for p, common in zip(self._parameters, self._shared, strict=True) if not common]
        found = torch.autograd.grad(output.loss, [*leaves, *own], allow_unused=True)
        cotangents, direct = found[: len(leaves)], found[len(leaves) :]
        one_by_one = iter(pieces)
        rows, gradients = task_gradients(
            [next(one_by_one) if each.numel() else () for each in index],
            [
                [None if c is None else c[:, each] for c in cotangents] if each.numel() else []
                for each in index
            ],
            self._parameters,
            self._shared,
        )
        if self._surgery.measures(version):
            self._surgery.measure("", inner_products(rows))
        if self._surgery.keeps_apart(""):
            assert output.value_rows is not None
            losses, kept = value_losses(output.value_rows, batch.valid, batch.task, self._tasks)
            direction = self._surgery.direction("", rows, kept=kept, losses=losses, last=self._last)
            for gradient, more in zip(gradients, direct, strict=True):
                if more is not None:
                    gradient += more
            joined = assembled(direction, gradients, self._parameters, self._shared)
            for parameter, gradient in zip(self._parameters, joined, strict=True):
                parameter.grad = gradient
        return output
