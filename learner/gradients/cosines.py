"""Cosines between the tasks' gradients, added up between two reports.

Axes: M tasks, P shared weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from learner.gradients.pcgrad import COLUMNS
from repertory.metrics.gradient_maps import WHOLE, CosineSums


def inner_products(rows: Float[Tensor, "M P"]) -> Float64[Tensor, "M M"]:
    """Return the gradients' inner products; those of parts of the weights may be added up.

    In float64: squares of entries below 1e-23 are zero in float32.
    """
    total = rows.new_zeros(rows.shape[0], rows.shape[0], dtype=torch.float64)
    for part in torch.split(rows, COLUMNS, 1):
        wide = part.double()
        total = torch.addmm(total, wide, wide.T)
    return total


def cosines(products: Float64[Tensor, "M M"]) -> Float64[Tensor, "M M"]:
    """Return gradients' cosines by their inner products; NaN with a gradient that is zero."""
    inner = products.cpu()
    lengths = inner.diagonal().sqrt()
    return (inner / (lengths.unsqueeze(1) * lengths)).clamp(-1.0, 1.0)


class CosineReport:
    """Sums each network's cosines since they were last read; memory does not grow."""

    def __init__(self) -> None:
        self._sums: dict[str, CosineSums] = {}

    def add(
        self,
        part: str,
        measured: Float64[Tensor, "M M"],
        overlap: Float64[np.ndarray, "M M"] | None = None,
    ) -> None:
        """Add one measurement of a part's cosines, and under masks their overlap."""
        network = part or WHOLE
        values = measured.numpy()
        compared = np.isfinite(values)
        one = CosineSums(
            network, np.where(compared, values, 0.0), compared.astype(np.int64), overlap
        )
        before = self._sums.get(network)
        self._sums[network] = one if before is None else before + one

    def read(self) -> list[CosineSums]:
        """Return the sums since the last call and begin anew."""
        found, self._sums = list(self._sums.values()), {}
        return found

    def state(self) -> dict[str, Any]:
        """Return what was not read yet."""
        return {
            one.network: {"sums": one.sums, "counts": one.counts, "overlap": one.overlap}
            for one in self._sums.values()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what was not read yet."""
        self._sums = {network: CosineSums(network, **one) for network, one in state.items()}
