"""When masks are updated, and how much of them each time."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["hump", "decay", "constant"]


def fraction_at(progress: float, *, schedule: Schedule, alpha: float) -> float:
    """Return the share of maskable weights to exchange at a progress in [0, 1] of the updates.

    hump: alpha (1 - cos(2 pi t)) / 2, from 0 to alpha at half-time and back, as the released code
    of Hu et al. 2024 does. decay: alpha (1 + cos(pi t)) / 2, from alpha to 0.
    """
    t = min(max(progress, 0.0), 1.0)
    match schedule:
        case "hump":
            return alpha * 0.5 * (1.0 - math.cos(2.0 * math.pi * t))
        case "decay":
            return alpha * 0.5 * (1.0 + math.cos(math.pi * t))
        case "constant":
            return alpha


def window_progress(progress: float, *, warm_up: float, freeze: float) -> float | None:
    """Return the progress between warm-up and freeze; None where masks rest.

    `warm_up` and `freeze` are the first and last shares of a run. Scores of a network that has
    learned nothing yet are noise, and at the end weights should settle in masks that stay.
    """
    if progress < warm_up or progress > 1.0 - freeze or warm_up + freeze >= 1.0:
        return None
    return (progress - warm_up) / (1.0 - warm_up - freeze)


def changes_at(
    progress: float,
    weights: int,
    *,
    schedule: Schedule,
    alpha: float,
    warm_up: float = 0.0,
    freeze: float = 0.0,
) -> int:
    """Return how many of `weights` maskable weights each task exchanges at this progress of a run.

    Rounded down, as the released code does; 0 during warm-up and freeze.
    """
    within = window_progress(progress, warm_up=warm_up, freeze=freeze)
    if within is None:
        return 0
    # A whole number that came out a rounding error short is that number.
    return int(fraction_at(within, schedule=schedule, alpha=alpha) * weights + 1e-9)


def is_due(update: int, *, every: int) -> bool:
    """Return whether masks are updated after this update, counted from 1."""
    return update % every == 0


def is_scored(update: int, *, every: int, batches: int) -> bool:
    """Return whether this update's batch is among the last `batches` before masks are updated.

    All of them where masks are updated more often than that.
    """
    return (update - 1) % every >= every - batches
