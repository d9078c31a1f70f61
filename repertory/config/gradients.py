"""How the gradients of many tasks become one, with what each method needs."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal

from pydantic import Field

from repertory.config.base import NonNegative, NonNegativeFloat, PositiveFloat, Settings

GradientMethod = Literal[
    "mean",
    "harmony",
    "pcgrad",
    "gradnorm",
    "torchjd:upgrad",
    "torchjd:cagrad",
    "torchjd:nashmtl",
    "torchjd:mgda",
    "torchjd:alignedmtl",
    "torchjd:imtlg",
    "torchjd:dualproj",
    "torchjd:fairgrad",
    "torchjd:graddrop",
    "torchjd:config",
    "torchjd:pcgrad",
]

NEEDED_BESIDE_TORCHJD: dict[str, tuple[str, ...]] = {
    "torchjd:cagrad": ("cvxpy", "clarabel"),
    "torchjd:nashmtl": ("cvxpy", "ecos"),
    "torchjd:fairgrad": ("scipy",),
}
"""Packages that a method needs beside torchjd. The extra `surgery` brings them, but for ecos, whose
licence is the GPL: `nashmtl` is an extra of its own.
"""


class GradientConfig(Settings):
    """How the gradients of many tasks become one."""

    method: GradientMethod = "mean"
    """mean: one backward pass through the joint loss; harmony: the same, each task acting and
    learning with its own part of the weights (`masks`), Hu et al. 2024; pcgrad: Yu et al.
    2020; gradnorm: weights learned for the tasks' critic losses, Chen et al. 2018; torchjd:<name>:
    an aggregator of that library (extra `surgery`; nashmtl: extra `nashmtl`). All but mean need
    two tasks or more, and none goes with ppo.
    """
    metrics_every: NonNegative = 1000
    """Updates between measurements of the cosines between tasks' gradients; 0 never. Under harmony
    they are of masked gradients, every `masks.metrics_every` updates with the masks' other metrics.
    """
    gradnorm_asymmetry: NonNegativeFloat = 1.5
    """GradNorm's alpha: how much harder tasks that train slower are pulled."""
    gradnorm_learning_rate: PositiveFloat = 0.025
    """Of Adam on GradNorm's weights."""
    cagrad_radius: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """CAGrad's c: how far from the mean it may go, in norms of the mean."""
    fairgrad_alpha: PositiveFloat = 1.0
    nashmtl_max_norm: NonNegativeFloat = 1.0
    """Nash-MTL's direction, whose length means nothing, is cut to this norm; 0 never."""


def missing_packages(method: str) -> list[str]:
    """Return which packages a method needs and this machine has not, without importing any."""
    if not method.startswith("torchjd:"):
        return []
    needed = ("torchjd", *NEEDED_BESIDE_TORCHJD.get(method, ()))
    return [name for name in needed if importlib.util.find_spec(name) is None]


def missing_sentence(method: str) -> str | None:
    """Return what to install for a method in one sentence, or None if nothing is missing."""
    missing = missing_packages(method)
    if not missing:
        return None
    extra = "nashmtl" if method == "torchjd:nashmtl" else "surgery"
    return (
        f"gradients.method {method} needs {' and '.join(missing)}, which "
        f"{'is' if len(missing) == 1 else 'are'} not installed: "
        f"pip install -c constraints.txt '.[{extra}]'"
    )
