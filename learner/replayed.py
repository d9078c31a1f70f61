"""A replayed batch, and the guide's windows, on the learner's device.

Axes: N steps ordered by task, W windows of K steps, K1 = K + 1, D numbers of an observation,
A actions, M tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repertory.types import ReplayBatch, Windows


class TensorWindows(NamedTuple):
    """`repertory.types.Windows` as tensors."""

    task: Int[Tensor, " W"]
    guide: Int[Tensor, " W"]
    observation: Float[Tensor, "K1 W D"]
    action: Float[Tensor, "K W A"]
    reward: Float[Tensor, "K W"]
    length: Int[Tensor, " W"]
    terminated: Bool[Tensor, " W"]
    truncated: Bool[Tensor, " W"]


class TensorReplayBatch(NamedTuple):
    """The replayed steps of `repertory.types.ReplayBatch` as tensors."""

    task: Int[Tensor, " N"]
    observation: Float[Tensor, "N D"]
    action: Float[Tensor, "N A"]
    reward: Float[Tensor, " N"]
    terminated: Bool[Tensor, " N"]
    truncated: Bool[Tensor, " N"]
    next_observation: Float[Tensor, "N D"]


def to_device_windows(windows: Windows, device: torch.device) -> TensorWindows:
    """Copy windows to the device; to CUDA through pinned memory, without waiting."""
    return TensorWindows(
        *(_moved(getattr(windows, name), device) for name in TensorWindows._fields)
    )


def to_device_steps(batch: ReplayBatch, device: torch.device) -> TensorReplayBatch:
    """Copy replayed steps to the device; to CUDA through pinned memory, without waiting."""
    return TensorReplayBatch(
        *(_moved(getattr(batch, name), device) for name in TensorReplayBatch._fields)
    )


def _moved(array: np.ndarray, device: torch.device) -> Tensor:
    # Arrays out of an object store are read-only, which torch does not know of.
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
