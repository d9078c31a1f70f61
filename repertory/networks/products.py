"""Matrix products of fully connected layers by the faster library, with their gradients.

Axes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

ROWS = 64
"""Fewer rows than this are not worth oneDNN's start."""


@cache
def _has_onednn() -> bool:
    """Say whether torch was built with oneDNN."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


@cache
def _processor() -> str:
    """Return what the system says of the first core, empty where it says nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.partition("\n\n")[0]


def prefers_onednn(rows: Float[Tensor, "*axes"]) -> bool:
    """Say whether `rows` are multiplied faster by oneDNN than by torch's default library.

    For float32 torch asks MKL, which on AMD's processors computes with half-width vectors: oneDNN
    is 2.2 times as fast there at the same accuracy (1280 x 400 x 400, benchmarks/sac.py). In
    bfloat16 torch itself asks oneDNN, and what is saved is the pass of its own that a ReLU takes.
    The answer depends on the processor, never on a measurement, so that runs repeat to the bit.
    """
    if rows.device.type != "cpu" or rows.shape[-2] < ROWS or not _has_onednn():
        return False
    if rows.dtype == torch.bfloat16:
        return "avx512bw" in _processor()
    processor = _processor()
    known = "AuthenticAMD" in processor and "avx512f" in processor
    return known and rows.dtype == torch.float32


def relu_layer(
    rows: Float[Tensor, "N I"], weight: Float[Tensor, "I O"], bias: Float[Tensor, " O"]
) -> Float[Tensor, "N O"]:
    """Return relu(rows @ weight + bias) by oneDNN, differentiable once."""
    outputs: Tensor = _ReluLayer.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return outputs


class _ReluLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        outputs = _product(rows, weight.t(), bias, "relu")
        ctx.save_for_backward(rows, weight, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, outputs = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0)
        return (
            _product(gradient, weight, None, "none") if of_rows else None,
            _product(rows.t(), gradient.t(), None, "none") if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def _product(rows: Tensor, transposed: Tensor, bias: Tensor | None, after: str) -> Tensor:
    """Return after(rows @ transposed^T + bias), whatever the strides."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, transposed, bias, after, [], "")
    return result
