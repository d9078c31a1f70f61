"""PCGrad on the Gram matrix: what it needs of M gradients is their M^2 inner products.

Axes: M tasks, P shared weights.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

COLUMNS = 65536
"""Weights at a time: a matrix of few rows and very many columns stays in the cache so."""


def gram(rows: Float[Tensor, "M P"]) -> Float[Tensor, "M M"]:
    """Return the inner products of gradients."""
    total = rows.new_zeros(rows.shape[0], rows.shape[0])
    for part in torch.split(rows, COLUMNS, 1):
        total = torch.addmm(total, part, part.T)
    return total


def independent_orders(tasks: int, generator: torch.Generator) -> Int64[Tensor, "{tasks} others"]:
    """Draw for each task an order of all the others, independent of the other tasks' orders."""
    orders = []
    for task in range(tasks):
        order = torch.randperm(tasks - 1, generator=generator)
        orders.append(order + (order >= task))
    return torch.stack(orders)


def pcgrad_weights(
    products: Float[Tensor, "M M"], order: Int64[Tensor, "M others"]
) -> Float64[Tensor, " M"]:
    """Return weights w so that PCGrad's direction is sum_k w_k g_k; without conflicts all 1/M.

    Each g_i is freed, for j in order[i], of its component along g_j where that opposes g_j, which
    is always the original one (Yu et al. 2020, algorithm 1). All stay in the span of the
    gradients, so that coefficients and Gram matrix say everything. The paper adds the results up;
    here they are averaged, since the plain update averages the tasks' losses.
    """
    inner = products.double().cpu()
    tasks = inner.shape[0]
    coefficients = torch.eye(tasks, dtype=torch.float64)
    each = torch.arange(tasks)
    for other in order.cpu().unbind(1):
        product = (coefficients * inner[other]).sum(1)
        # A gradient of zeros conflicts with nobody.
        length = inner[other, other]
        share = torch.where(product < 0.0, product / length.clamp(min=1e-300), 0.0)
        coefficients[each, other] -= share
    return coefficients.mean(0)
