"""A batch of unrolls on the learner's device.

Axes: T steps, T1 = T + 1 observations, H frames of history, B columns, N = (T + 1) * B network
inputs, R recurrent state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt8
from torch import Tensor

from repertory.types import LANE_FIRST, UNROLL_ARRAYS, Unroll


class TensorBatch(NamedTuple):
    """The fields of an unroll that losses look at, as tensors."""

    stacked: Shaped[Tensor, "N *stacked"]
    """Network inputs, rows by step then column."""
    age: UInt8[Tensor, "T1 B"]
    task: Int[Tensor, " B"]
    action: Int64[Tensor, "T B"]
    reward: Float[Tensor, "T B"]
    terminated: Bool[Tensor, "T B"]
    valid: Bool[Tensor, "T B"]
    behaviour_log_probability: Float[Tensor, "T B"]
    recurrent: Float[Tensor, "B R"]

    def columns(self, index: Int64[Tensor, " N"]) -> TensorBatch:
        """Return a batch of these columns."""
        steps, columns = self.age.shape
        inputs = self.stacked.view(steps, columns, *self.stacked.shape[1:])
        return TensorBatch(
            stacked=inputs.index_select(1, index).flatten(0, 1),
            age=self.age[:, index],
            task=self.task[index],
            action=self.action[:, index],
            reward=self.reward[:, index],
            terminated=self.terminated[:, index],
            valid=self.valid[:, index],
            behaviour_log_probability=self.behaviour_log_probability[:, index],
            recurrent=self.recurrent[index],
        )


def arrays_of(batch: Unroll) -> dict[str, np.ndarray]:
    """Return what a batch is made of, without its accounts of episodes and guides."""
    return {name: getattr(batch, name) for name in UNROLL_ARRAYS}


def columns_of(arrays: Mapping[str, np.ndarray], index: Int64[np.ndarray, " N"]) -> Unroll:
    """Return a batch of these columns of the one that `arrays_of` was given."""
    columns: dict[str, Any] = {
        name: arrays[name][index] if name in LANE_FIRST else arrays[name][:, index]
        for name in UNROLL_ARRAYS
    }
    return Unroll(worker=0, incarnation=0, sequence=0, **columns)


def to_device(
    batch: Unroll, device: torch.device, rebuild: Callable[[Tensor, Tensor], Tensor]
) -> TensorBatch:
    """Copy a batch to the device; to CUDA through pinned memory, without waiting.

    `rebuild(observation, age)` makes network inputs out of single observations. It runs here,
    outside of what is compiled: it has no gradient, and the compiler makes it slower.
    """

    def moved(array: np.ndarray) -> Tensor:
        # Arrays out of an object store are read-only, which torch does not know of.
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        if device.type == "cuda":
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)

    age = moved(batch.age)
    return TensorBatch(
        stacked=rebuild(moved(batch.observation), age),
        age=age,
        task=moved(batch.task),
        action=moved(batch.action.astype(np.int64, copy=False)),
        reward=moved(batch.reward),
        terminated=moved(batch.terminated),
        valid=moved(batch.valid),
        behaviour_log_probability=moved(batch.behaviour_log_probability),
        recurrent=moved(batch.recurrent),
    )
