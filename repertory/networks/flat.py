"""A network as one flat float32 vector, the form in which weights travel."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn


def _tensors(module: nn.Module) -> list[Tensor]:
    """Return parameters, then float buffers, each in the order of the module's definition."""
    floats = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    return [*module.parameters(), *floats]


def to_vector(module: nn.Module) -> Float32[np.ndarray, " P"]:
    """Return all parameters and float buffers as a new float32 vector; one device transfer."""
    with torch.no_grad():
        parts = [tensor.reshape(-1).to(torch.float32) for tensor in _tensors(module)]
        return torch.cat(parts).cpu().numpy()


def load_vector(module: nn.Module, vector: Float32[np.ndarray, " P"]) -> None:
    """Copy a vector of `to_vector` into a module of the same architecture, in its own formats."""
    tensors = _tensors(module)
    sizes = [tensor.numel() for tensor in tensors]
    if vector.size != sum(sizes):
        raise ValueError(
            f"a vector of {vector.size:,} weights does not fit a network of {sum(sizes):,}: "
            "they are different architectures"
        )
    with torch.no_grad():
        # What comes out of an object store is read-only, which torch does not know of.
        source = torch.from_numpy(vector if vector.flags.writeable else vector.copy())
        for tensor, part in zip(tensors, torch.split(source, sizes), strict=True):
            tensor.copy_(part.view(tensor.shape))
