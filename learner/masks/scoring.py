"""Every task's gradients under its mask and of the whole network, for mask updates and metrics.

Each task's rows go through a graph of their own: as many passes back through one joint graph would
walk all rows that often.

Axes: C copies, N rows ordered by task, I inputs, O outputs, M tasks, B columns of an unroll.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from learner.batches import TensorBatch
from learner.gradients.jacobian import outputs_by_task
from learner.masks.gradients import TaskGradients, task_gradient
from repertory.masks import MaskLayout
from repertory.networks.masked import MaskedMlp
from repertory.networks.task_mlp import TaskMlp


def mlp_gradients(
    network: TaskMlp,
    worn: MaskedMlp,
    layout: MaskLayout,
    inputs: Float[Tensor, "N I"],
    means_of: Callable[[Tensor], Tensor],
    kept: Bool[Tensor, " M"],
    *,
    full: bool,
) -> list[TaskGradients]:
    """Return each task's gradients of its loss, of zeros for tasks that are not kept.

    `means_of` are the tasks' losses of outputs [C, N, O]; without `full` only the masked gradients
    are computed, and stand for both.
    """
    rows = inputs.chunk(network.tasks)
    masked = _by_task(
        [worn.of_task(index, part) for index, part in enumerate(rows)],
        network,
        layout,
        means_of,
        kept,
    )
    whole = masked
    if full:
        pieces = outputs_by_task(network, inputs).pieces
        whole = _by_task(list(pieces), network, layout, means_of, kept)
    return [TaskGradients(*pair) for pair in zip(masked, whole, strict=True)]


def _by_task(
    pieces: list[Tensor],
    network: nn.Module,
    layout: MaskLayout,
    means_of: Callable[[Tensor], Tensor],
    kept: Tensor,
) -> list[Tensor]:
    outputs = torch.cat(pieces, 1).detach().requires_grad_()
    loss = torch.where(kept, means_of(outputs), 0.0).sum()
    (cotangent,) = torch.autograd.grad(loss, outputs)
    shares = cotangent.chunk(len(pieces), 1)
    return [
        task_gradient((piece * share).sum(), network, layout)
        for piece, share in zip(pieces, shares, strict=True)
    ]


def unroll_gradients(
    network: nn.Module,
    layout: MaskLayout,
    batch: TensorBatch,
    task: Int[np.ndarray, " B"],
    *,
    tasks: int,
    masked: Callable[[TensorBatch], Tensor],
    whole: Callable[[TensorBatch], Tensor] | None,
) -> list[TaskGradients]:
    """Return each task's gradients of the losses of its columns, of zeros for tasks without any.

    Without `whole` only the masked gradients are computed, and stand for both.
    """
    found = []
    for index in range(tasks):
        columns = np.flatnonzero(task == index)
        if not len(columns):
            nothing = batch.reward.new_zeros(layout.copies, layout.total)
            found.append(TaskGradients(nothing, nothing))
            continue
        part = batch.columns(torch.from_numpy(columns).to(batch.task.device))
        own = task_gradient(masked(part), network, layout)
        full = own if whole is None else task_gradient(whole(part), network, layout)
        found.append(TaskGradients(own, full))
    return found
