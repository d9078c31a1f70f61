"""What a learner tells the driver."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from repertory.metrics.gradient_maps import CosineSums
from repertory.types import EnvironmentFault, EpisodeRecord


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the driver learns every second, without waiting for the update that is under way."""

    updates: int
    env_steps: int
    silent_s: dict[int, float]
    """Seconds since each worker was last heard of; 0 for one that is being held back."""
    failure: BaseException | None
    delivered: dict[int, int] = field(default_factory=dict)
    """Agent steps received from each worker so far."""


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics, episodes, guides and cosines between gradients since the last report."""

    updates: int
    env_steps: int
    metrics: dict[str, float]
    episodes: list[EpisodeRecord]
    guides: Int64[np.ndarray, "M C"] | None
    faults: list[EnvironmentFault]
    cosines: list[CosineSums]
