"""One measurement of how a network's tasks get along under their masks, in bounded memory.

Axes: M tasks, C copies of a network, P maskable weights of a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from learner.gradients.cosines import inner_products
from learner.masks.harmony import (
    Harmony,
    Signs,
    densities,
    harmony_of,
    mean_between,
    null_of_masks,
    overlap,
    signs_of,
)
from repertory.masks import MaskLayout


class Measured(NamedTuple):
    """What one update's masked gradients say."""

    products: Float64[Tensor, "M M"]
    """Their inner products."""
    overlap: Float[Tensor, "M M"]
    whole: Harmony
    others: Harmony
    """Against the mean of the other tasks."""


def measured(
    masked_of: Callable[[int], Float[Tensor, "C P"]],
    owned: Bool[Tensor, "M P"],
    layout: MaskLayout,
    *,
    at_once: int,
) -> Measured:
    """Measure the tasks' masked gradients, `at_once` of their weights at a time.

    Each task is asked for its gradient once for every part: a look-up where all are held.
    """
    tasks = len(owned)
    products = torch.zeros(tasks, tasks, dtype=torch.float64, device=owned.device)
    signs: dict[bool, list[Signs]] = {False: [], True: []}
    for start in range(0, layout.total, at_once):
        part = slice(start, start + at_once)
        masked = torch.stack([masked_of(task)[:, part] for task in range(tasks)])
        products += inner_products(masked.flatten(1))
        for leave_one_out, found in signs.items():
            found.append(signs_of(masked, owned=owned[:, part], leave_one_out=leave_one_out))
    whole, others = (
        harmony_of(Signs(*(torch.cat(parts) for parts in zip(*found, strict=True))), layout)
        for found in signs.values()
    )
    return Measured(products, overlap(owned), whole, others)


def described(
    found: Measured, owned: Bool[Tensor, "M P"], layout: MaskLayout, ending: str
) -> dict[str, float]:
    """Return a measurement under its names in a run's rows."""
    row = {
        f"learner/harmony{ending}": float(found.whole.whole),
        f"learner/harmony_null{ending}": null_of_masks(owned),
        f"learner/harmony_others{ending}": float(found.others.whole),
        f"learner/mask_overlap{ending}": float(mean_between(found.overlap)),
    }
    parts = torch.split(owned, list(layout.sizes), 1)
    shares = densities(owned, layout).mean(0)
    of_layers = torch.stack(
        [found.whole.layers.cpu(), found.others.layers.cpu(), shares.cpu()], 1
    ).tolist()
    for name, part, (defined, others, share) in zip(layout.names, parts, of_layers, strict=True):
        row[f"learner/harmony_layer{ending}/{name}"] = others
        row[f"learner/harmony_layer_defined{ending}/{name}"] = defined
        row[f"learner/harmony_layer_null{ending}/{name}"] = null_of_masks(part)
        row[f"learner/mask_density{ending}/{name}"] = share
    return row
