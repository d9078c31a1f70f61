"""Matrix products of fully connected layers by the faster library, with their gradients.

Axes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

MULTIPLICATIONS = 2**20
"""A product of fewer multiplications than this is not worth oneDNN's start."""


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


def prefers_onednn(rows: Float[Tensor, "*axes I"], outputs: int) -> bool:
    """Say whether `rows` times a matrix with so many `outputs` is faster by oneDNN than by torch.

    For float32 torch asks MKL, which on AMD's processors computes with half-width vectors: oneDNN
    is 2.2 times as fast there at the same accuracy (1280 x 400 x 400, benchmarks/sac.py; 168 x 2592
    x 256 alike), and as fast at a million multiplications, few rows or many. In bfloat16 torch
    itself asks oneDNN, and what is saved is the pass of its own that a ReLU takes. The answer
    depends on the processor, never on a measurement, so that runs repeat to the bit.
    """
    # What is compiled chooses its products itself, and cannot trace a look at the processor.
    if rows.device.type != "cpu" or torch.compiler.is_compiling() or not _has_onednn():
        return False
    if rows.shape[-2] * rows.shape[-1] * outputs < MULTIPLICATIONS:
        return False
    if rows.dtype == torch.bfloat16:
        return "avx512bw" in _processor()
    processor = _processor()
    known = "AuthenticAMD" in processor and "avx512f" in processor
    return known and rows.dtype == torch.float32


def linear(
    rows: Float[Tensor, "*rows I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None
) -> Float[Tensor, "*rows O"]:
    """Return rows @ weight^T + bias by the faster library."""
    flat = rows.flatten(0, -2)
    if rows.dtype != torch.float32 or not prefers_onednn(flat, weight.shape[0]):
        return F.linear(rows, weight, bias)
    product: Tensor = _Linear.apply(flat, weight, bias)  # type: ignore[no-untyped-call]
    return product.view(*rows.shape[:-1], -1)


def relu_layer(
    rows: Float[Tensor, "N I"], weight: Float[Tensor, "I O"], bias: Float[Tensor, " O"]
) -> Float[Tensor, "N O"]:
    """Return relu(rows @ weight + bias) by oneDNN, differentiable once."""
    outputs: Tensor = _ReluLayer.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return outputs


def masked_relu_layer(
    rows: Float[Tensor, "N I"],
    weight: Float[Tensor, "I O"],
    bias: Float[Tensor, " O"],
    masks: Sequence[Shaped[Tensor, "I O"]],
) -> Float[Tensor, "N O"]:
    """Return relu(rows @ (weight * mask) + bias) of rows in equal shares, one for each mask.

    By oneDNN, differentiable once. One masked matrix lies in memory at a time, where the processor
    has it at hand, and is built again for the gradient: with as many matrices as tasks, writing
    and reading them took a quarter of an update (5 x 400, 10 tasks).
    """
    outputs: Tensor = _MaskedReluLayer.apply(  # type: ignore[no-untyped-call]
        rows, weight, bias, masks
    )
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


class _MaskedReluLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, masks: Sequence[Tensor]
    ) -> Tensor:
        count = len(rows) // len(masks)
        masked, outputs = torch.empty_like(weight), rows.new_empty(len(rows), len(bias))
        for mask, own, results in zip(
            masks, torch.split(rows, count), torch.split(outputs, count), strict=True
        ):
            torch.mul(weight, mask, out=masked)
            results.copy_(_product(own, masked.t(), bias, "relu"))
        ctx.save_for_backward(rows, weight, outputs)
        ctx.masks = masks
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, outputs = ctx.saved_tensors
        needs_rows, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0)
        of_rows = torch.empty_like(rows) if needs_rows else None
        of_weight = torch.zeros_like(weight) if needs_weight else None
        masked, count = torch.empty_like(weight), len(rows) // len(ctx.masks)
        for index, (mask, pull) in enumerate(
            zip(ctx.masks, torch.split(gradient, count), strict=True)
        ):
            own = slice(index * count, (index + 1) * count)
            if of_rows is not None:
                torch.mul(weight, mask, out=masked)
                of_rows[own] = _product(pull, masked, None, "none")
            if of_weight is not None:
                of_weight += _product(rows[own].t(), pull.t(), None, "none").mul_(mask)
        return of_rows, of_weight, gradient.sum(0) if needs_bias else None, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias, "none")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t(), None, "none") if of_rows else None,
            _product(gradient.t(), rows.t(), None, "none") if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def _product(rows: Tensor, transposed: Tensor, bias: Tensor | None, after: str) -> Tensor:
    """Return after(rows @ transposed^T + bias), whatever the strides."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, transposed, bias, after, [], "")
    return result
