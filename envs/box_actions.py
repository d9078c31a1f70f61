"""Check continuous actions where they enter an environment.

Axes: L lanes, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repertory.errors import EnvironmentFailure


def check_box(action: np.ndarray, names: Sequence[str], size: int) -> None:
    """Refuse what is not one float32 action in [-1, 1]^size for each lane, shape [L, A].

    A policy squashes or clips what it samples; a number outside, or one that is not a number, is a
    fault of the policy that clipping here would hide from its learner.

    Args:
        action: what came in.
        names: the task of every lane.
        size: A.

    Raises:
        EnvironmentFailure: with the task and the lane where the first wrong number is.
    """
    if action.shape != (len(names), size) or action.dtype != np.float32:
        raise EnvironmentFailure(
            f"need float32 actions of shape {(len(names), size)}, one row for each lane, "
            f"got {action.dtype} of shape {action.shape}."
        )
    # Asked this way round, NaN is refused as well.
    inside = np.abs(action) <= 1.0
    if not inside.all():
        lane, position = (int(index) for index in np.argwhere(~inside)[0])
        raise EnvironmentFailure(
            f"{names[lane]} (lane {lane}): number {position} of the action is "
            f"{float(action[lane, position])}, not in [-1, 1]."
        )
