"""Convolution and dense layers that compute in the number format of their input.

Axes: N rows, C channels, Y and X pixels, I inputs, O outputs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from repertory.config import MemoryFormat
from repertory.networks.products import linear


def _initialise(weight: Tensor, fan_in: int, scale: float, generator: torch.Generator) -> None:
    """Fill with a normal of deviation scale / sqrt(fan_in), cut at two deviations.

    Scale 1 is the initialiser of the networks that the published learning rates were tuned with
    (LeCun et al. 1998; Sonnet's default); `KEEPS_VARIANCE` is He et al. 2015. Drawn in
    float32 on the CPU, so that it is the same everywhere.
    """
    draws = torch.empty(weight.shape)
    deviation = scale / math.sqrt(fan_in)
    nn.init.trunc_normal_(
        draws, 0.0, deviation, -2.0 * deviation, 2.0 * deviation, generator=generator
    )
    with torch.no_grad():
        weight.copy_(draws)


KEEPS_VARIANCE = math.sqrt(2.0)
"""Weight scale at which a layer before a ReLU hands on the variance that it was given."""


class Convolution(nn.Module):
    """A square convolution; its weights are cast to the input's format at every call.

    Parameters stay float32 while training (the cast is part of the graph), and a copy for acting
    may hold them in bfloat16: the same code runs both. `input_scale` multiplies the input by
    scaling the far smaller weights, so that bytes 0..255, exact in bfloat16, need no division.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        input_scale: float = 1.0,
        weight_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((outputs, inputs, kernel, kernel), math.nan))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.input_scale = input_scale
        self.weight_scale = weight_scale

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights afresh."""
        _initialise(self.weight, self.weight[0].numel(), self.weight_scale, generator)

    def output_side(self, side: int) -> int:
        """Return the side of the square output for a square input."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1

    def forward(self, images: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N O V U"]:
        """Convolve."""
        weight = self.weight if self.input_scale == 1.0 else self.weight * self.input_scale
        return F.conv2d(
            images,
            weight.to(images.dtype),
            self.bias.to(images.dtype),
            self.stride,
            self.padding,
        )


class Dense(nn.Module):
    """A fully connected layer; its weights are cast to the input's format at every call."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, weight_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((outputs, inputs), math.nan))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_scale = weight_scale

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights afresh."""
        _initialise(self.weight, self.weight.shape[1], self.weight_scale, generator)

    def forward(self, inputs: Float[Tensor, "*rows I"]) -> Float[Tensor, "*rows O"]:
        """Multiply and add."""
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        return linear(inputs, self.weight.to(inputs.dtype), bias)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every layer of `module` from one generator, in the order of its submodules."""
    for part in module.modules():
        if isinstance(part, Convolution | Dense):
            part.initialise(generator)


def wants_channels_last(setting: MemoryFormat) -> bool:
    """Return whether images lie in memory channel by channel within each pixel."""
    return setting != "contiguous"


def use_channels_last(module: nn.Module) -> None:
    """Lay out convolution weights in the order that images come in; values stay the same."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
