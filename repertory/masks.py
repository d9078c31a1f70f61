"""Which weights of a network each task owns: their layout as one vector, and bits that travel.

Axes: M tasks, P maskable weights (of one copy, where a network has copies), Q = ceil(P / 8) bytes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8


class MaskedTensor(NamedTuple):
    """One parameter of a network that masks apply to."""

    name: str
    """As in `named_parameters`."""
    shape: tuple[int, ...]
    """Of the maskable part of one copy."""
    free_columns: int = 0
    """Trailing entries of the last axis that every task owns: columns that read a task's code."""
    exempt: bool = False
    """Has bits that are counted and moved but never applied; released codes only."""

    @property
    def size(self) -> int:
        """Return the number of bits."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class MaskLayout:
    """Where each maskable parameter lies in a mask of P bits.

    Copies of a network (twin critics) share one mask, so a position stands for `copies` weights.
    """

    tensors: tuple[MaskedTensor, ...]
    copies: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Return the parameters' names in order."""
        return tuple(tensor.name for tensor in self.tensors)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shape of each maskable part."""
        return tuple(tensor.shape for tensor in self.tensors)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of bits of each parameter."""
        return tuple(tensor.size for tensor in self.tensors)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Return the position of each parameter's first bit."""
        return (0, *itertools.accumulate(self.sizes[:-1]))

    @property
    def total(self) -> int:
        """Return P."""
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class PackedMasks:
    """The masks of all tasks as bits, one version of them; 1 is a weight that the task owns."""

    version: int
    bits: UInt8[np.ndarray, "M Q"]
    weights: int
    """P."""

    def __post_init__(self) -> None:
        if self.bits.shape[1] != packed_size(self.weights):
            raise ValueError(
                f"{self.bits.shape[1]:,} bytes a task do not hold masks of {self.weights:,} bits"
            )

    @property
    def tasks(self) -> int:
        """Return M."""
        return int(self.bits.shape[0])

    def unpack(self) -> Bool[np.ndarray, "M P"]:
        """Return all masks as new booleans."""
        return np.unpackbits(self.bits, axis=1, count=self.weights).view(np.bool_)

    def task(self, index: int) -> Bool[np.ndarray, " P"]:
        """Return one task's mask as new booleans."""
        return np.unpackbits(self.bits[index], count=self.weights).view(np.bool_)


def pack(masks: Bool[np.ndarray, "M P"], version: int) -> PackedMasks:
    """Return masks as bits."""
    return PackedMasks(version, np.packbits(masks, axis=1), int(masks.shape[1]))


def masks_state(masks: PackedMasks) -> dict[str, Any]:
    """Return masks as a tree for a checkpoint."""
    return {"version": masks.version, "bits": masks.bits, "weights": masks.weights}


def masks_from_state(state: dict[str, Any]) -> PackedMasks:
    """Return the masks that `masks_state` was given."""
    return PackedMasks(int(state["version"]), np.array(state["bits"]), int(state["weights"]))


def voted_mask(
    masks: Bool[np.ndarray, "M P"], threshold: float | None = None
) -> Bool[np.ndarray, " P"]:
    """Return the weights of a task that was not trained on: those that most tasks own.

    By default as many as a task has on average. Hu et al. 2024 take the weights that more than
    `threshold` tasks own, a number that fits one sparsity and number of tasks: 25 of 50 keeps all
    but two weights in a million of random masks of sparsity 0.2, and 0.8 M three in a thousand of
    50 of sparsity 0.5.

    Of weights with equally many votes at the edge, those taken are spread evenly over the vector:
    by lowest index the network's last layers would give up all that is given up.

    Raises:
        ValueError: no weight can have more than `threshold` votes.
    """
    tasks = masks.shape[0]
    votes: Int64[np.ndarray, " P"] = masks.sum(0, dtype=np.int64)
    if threshold is not None:
        if threshold >= tasks:
            raise ValueError(f"none of {tasks} tasks' weights has more than {threshold:g} votes")
        published: Bool[np.ndarray, " P"] = votes > threshold
        return published
    count = round(int(votes.sum()) / tasks)
    # How many weights have so many votes or more; all have none or more.
    at_least = np.bincount(votes, minlength=tasks + 1)[::-1].cumsum()[::-1]
    edge = int(np.flatnonzero(at_least >= count)[-1])
    voted: Bool[np.ndarray, " P"] = votes > edge
    tied = np.flatnonzero(votes == edge)
    wanted = count - int(voted.sum())
    if wanted:
        voted[tied[np.arange(wanted) * len(tied) // wanted]] = True
    return voted


def packed_size(weights: int) -> int:
    """Return the bytes that one task's bits take."""
    return -(-weights // 8)


class MaskMemory(NamedTuple):
    """Bytes that masks of a network take."""

    packed: int
    """What travels and what checkpoints hold."""
    boolean: int
    """Unpacked, a byte each."""
    applied: int
    """As float32, the fastest to multiply with."""
    gradients: int
    """One gradient of every task; a mask update takes two of these, or none in two passes."""


def memory_of(tasks: int, weights: int, copies: int = 1) -> MaskMemory:
    """Return what M masks of P bits and the gradients that update them take."""
    entries = tasks * weights
    return MaskMemory(tasks * packed_size(weights), entries, 4 * entries, 4 * entries * copies)
