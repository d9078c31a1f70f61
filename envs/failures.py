"""What the lanes of a suite say of an environment that fails: raised at once, or noted for whoever
contains it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from repertory.errors import EnvironmentFailure
from repertory.ports import Lanes

log = logging.getLogger(__name__)


def put(answer: np.ndarray, row: np.ndarray) -> None:
    """Write the observation that an environment answered to its row among those of all lanes.

    Raises:
        ValueError: it has another shape or type. numpy alone would spread a part of an observation
            over the row, and cast; of floating-point numbers the precision may differ.
    """
    same = answer.dtype == row.dtype or answer.dtype.kind == row.dtype.kind == "f"
    if answer.shape != row.shape or not same:
        raise ValueError(
            f"an observation of {answer.dtype} {answer.shape}, where the task's are {row.dtype} "
            f"{row.shape}"
        )
    row[...] = answer


class LaneFailures:
    """The failures of one step, by lane; held by the lanes themselves.

    As made, the first failure is raised: nobody may miss it. Once `contained` is set, failures
    are noted instead, the other lanes play on, and lanes in `out` are not stepped at all.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Watch over lanes that play these tasks."""
        self._names = names
        self.contained = False
        self.out: set[int] = set()
        """Lanes that nothing is asked of any more."""
        self.now: dict[int, str] = {}
        """The failures of the step under way, each with its sentence."""

    def note(self, lane: int, error: Exception) -> None:
        """Take note of what a lane's environment raised.

        Raises:
            EnvironmentFailure: nobody contains it.
        """
        failure = self.of(lane, error)
        if not self.contained:
            raise failure from error
        # The sentence is what is counted and told; where it was raised, only a traceback shows.
        log.info("%s", failure, exc_info=error)
        self.now[lane] = str(failure)

    def of(self, lane: int, error: Exception) -> EnvironmentFailure:
        """Return the failure that `error` in a lane is, which names its task."""
        if isinstance(error, EnvironmentFailure):
            return error
        return EnvironmentFailure(
            f"{self._names[lane]} (lane {lane}) failed: {type(error).__name__}: {error}"
        )

    def take(self) -> dict[int, str]:
        """Return the failures since the last call."""
        taken, self.now = self.now, {}
        return taken


class RenewableLanes(Lanes, Protocol):
    """Lanes whose environments can be replaced one by one."""

    failures: LaneFailures

    def renew(self, lane: int) -> np.ndarray:
        """Replace a lane's environment by a new one with random streams of its own, and start it.

        Returns the first observation, shape [*shape].

        Raises:
            Exception: whatever the new environment raises.
        """
