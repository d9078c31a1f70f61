"""From sampled steps to one batch of an off-policy learner.

Axes: N rows of the batch, ordered by task.
"""

from __future__ import annotations

import numpy as np

from repertory.types import ReplayBatch, Windows
from replay.window_ring import Rows, WindowRings


def batch_of_steps(
    rings: WindowRings, rows: Rows, success_rate: np.ndarray, windows: Windows | None
) -> ReplayBatch:
    """Copy the sampled steps out of the rings, as many of every task."""
    slot, step = rows
    # Only the last step of a window can be the last one of its episode.
    last = step == rings.length[slot] - 1
    tasks = len(success_rate)
    return ReplayBatch(
        task=np.repeat(np.arange(tasks, dtype=np.int32), len(slot) // tasks),
        observation=rings.observations(rows),
        action=rings.actions(rows),
        reward=rings.reward[slot, step],
        terminated=rings.terminated[slot] & last,
        truncated=rings.truncated[slot] & last,
        next_observation=rings.observations(rows, after=1),
        success_rate=success_rate,
        windows=windows,
    )
