"""Masks applied to networks: which parameters are maskable, and theta * mask inside autograd.

Axes: M tasks, P maskable weights of one copy, C copies of a network.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from repertory.config.masks import MaskConfig
from repertory.masks import MaskedTensor, MaskLayout, PackedMasks, voted_mask
from repertory.networks.conditioning import TaskConditioning
from repertory.networks.heads import PolicyHead, ValueHead
from repertory.networks.layers import Convolution, Dense
from repertory.networks.task_mlp import TaskMlp

APPLIED_AS_NUMBERS = 256 * 2**20
"""Masks of more bytes than this as numbers are kept as booleans, which multiply more slowly."""


def layout_of(network: nn.Module, *, released: bool = False) -> MaskLayout:
    """Return the layout of a network's maskable parameters: matrices and convolutions of the trunk.

    Heads, norms, biases, task codes and embeddings, and PopArt statistics belong to all tasks. With
    `released`, codes and heads have bits that are never applied: they take part in the budget of
    the initialisation and in mask updates, as in the released code of Hu et al. 2024.
    """
    tensors: list[MaskedTensor] = []
    copies = set()
    mixers: dict[nn.Module, int] = {}
    for prefix, part in network.named_modules():
        dot = f"{prefix}." if prefix else ""
        match part:
            case TaskMlp():
                copies.add(part.copies)
                tensors += [
                    MaskedTensor(f"{dot}weights.{index}", tuple(weight.shape[1:]))
                    for index, weight in enumerate(part.weights)
                ]
                if released:
                    tensors += [
                        MaskedTensor(f"{dot}{name}", tuple(weight.shape[1:]), exempt=True)
                        for name, weight in (("code", part.code), ("head_weight", part.head_weight))
                        if weight is not None
                    ]
            case TaskConditioning():
                outputs, inputs = part.mix.weight.shape
                mixers[part.mix] = inputs - outputs
                if released and part.embedding is not None:
                    shape = tuple(part.embedding.shape)
                    tensors.append(MaskedTensor(f"{dot}embedding", shape, exempt=True))
            case PolicyHead() | ValueHead():
                if released:
                    shape = tuple(part.weight.shape)
                    tensors.append(MaskedTensor(f"{dot}weight", shape, exempt=True))
            case Convolution() | Dense():
                copies.add(1)
                free = mixers.get(part, 0)
                shape = (*part.weight.shape[:-1], part.weight.shape[-1] - free)
                tensors.append(MaskedTensor(f"{dot}weight", shape, free))
    if len(copies) != 1:
        raise ValueError(f"masks need one network, but its parts have {sorted(copies)} copies")
    return MaskLayout(tuple(tensors), copies.pop())


def flatten(layout: MaskLayout, tensors: Mapping[str, Tensor]) -> Float[Tensor, "C P"]:
    """Return the maskable part of each copy of parameters or gradients as a new vector."""
    parts = []
    for tensor in layout.tensors:
        columns = tensor.shape[-1]
        rows = tensors[tensor.name].reshape(layout.copies, -1, columns + tensor.free_columns)
        parts.append(rows[..., :columns].reshape(layout.copies, -1))
    return torch.cat(parts, 1)


def maskable_parameters(network: nn.Module, layout: MaskLayout) -> dict[str, nn.Parameter]:
    """Return the parameters of a layout by name, in its order."""
    parameters = dict(network.named_parameters())
    return {name: parameters[name] for name in layout.names}


class TaskMasks:
    """One version of all tasks' masks, cut into parameters and ready to multiply with.

    A task that was not trained on has the mask `unseen`, or owns every weight where there is none.
    """

    def __init__(
        self,
        masks: PackedMasks,
        layout: MaskLayout,
        *,
        unseen: Bool[np.ndarray, " P"] | None = None,
        device: torch.device | str = "cpu",
        number_format: torch.dtype = torch.float32,
    ) -> None:
        if masks.weights != layout.total:
            raise ValueError(
                f"masks of {masks.weights:,} weights do not fit a network with {layout.total:,}"
            )
        self.version, self.tasks, self.layout = masks.version, masks.tasks, layout
        last = np.ones(layout.total, np.bool_) if unseen is None else unseen
        rows = torch.from_numpy(np.concatenate([masks.unpack(), last[np.newaxis]]))
        size = rows.numel() * torch.empty(0, dtype=number_format).element_size()
        form = number_format if size <= APPLIED_AS_NUMBERS else torch.bool
        rows = rows.to(device).to(form)
        self._of: dict[str, tuple[Tensor, ...]] = {}
        for tensor, part in zip(
            layout.tensors, torch.split(rows, list(layout.sizes), 1), strict=True
        ):
            if not tensor.exempt:
                shaped = part.reshape(-1, *tensor.shape)
                if tensor.free_columns:
                    shaped = F.pad(shaped, (0, tensor.free_columns), value=1)
                self._of[tensor.name] = shaped.unbind(0)

    def row(self, task: int) -> int:
        """Return which mask a task has, M for one that was not trained on."""
        return task if 0 <= task < self.tasks else self.tasks

    def of(self, name: str, task: int) -> Tensor:
        """Return one parameter's mask for a task, to be multiplied with each of its copies."""
        return self._of[name][self.row(task)]

    def masked(self, network: nn.Module, task: int) -> dict[str, Tensor]:
        """Return theta * mask of every masked parameter; differentiable, theta stays as it is.

        The gradient that reaches theta is the sub-network's, zero where the task owns nothing.
        """
        parameters = dict(network.named_parameters())
        return {
            name: parameters[name] * rows[self.row(task)].to(parameters[name].dtype)
            for name, rows in self._of.items()
        }


class MaskReader:
    """Makes packed masks ready to multiply with, once per version of them.

    A task that was not trained on has the mask that the others vote for, by the default where they
    are too few for `masks.unseen_votes`, which a fine-tuned run has from its parent.
    """

    def __init__(
        self, network: nn.Module, settings: MaskConfig, device: torch.device | str = "cpu"
    ) -> None:
        self.layout = layout_of(network, released=settings.compat == "released")
        self._threshold, self._device = settings.unseen_votes, device
        self._last: tuple[PackedMasks, TaskMasks] | None = None

    def __call__(self, masks: PackedMasks) -> TaskMasks:
        """Return masks; those of the last call if they are the same object, or their equal."""
        if self._last is not None and _same(self._last[0], masks):
            return self._last[1]
        # Gone before the next are made: both together would be the most that an actor ever holds.
        self._last = None
        threshold = self._threshold if 0.0 < self._threshold < masks.tasks else None
        unseen = voted_mask(masks.unpack(), threshold)
        ready = TaskMasks(masks, self.layout, unseen=unseen, device=self._device)
        self._last = (masks, ready)
        return ready


def _same(one: PackedMasks, other: PackedMasks) -> bool:
    # Not by the version alone: another run's masks may have the same.
    return one is other or (one.version == other.version and np.array_equal(one.bits, other.bits))
