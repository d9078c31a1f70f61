"""The rolling stack of newest observations that a policy sees, oldest first in the last axis.

Axes: L lanes, K observations of a stack.
"""

from __future__ import annotations

import sys

import numpy as np

from repertory.types import ObservationSpec


class RollingStack:
    """The last K observations of L lanes as one array [L, *shape, K]; an episode's first repeats.

    Four bytes are one 32-bit word: the usual stack of four uint8 frames rolls with a shift and an
    or over whole arrays, an order of magnitude cheaper than moving bytes with stride four.
    """

    def __init__(self, spec: ObservationSpec, lanes: int) -> None:
        self._depth = spec.stack
        self.array = np.zeros((lanes, *spec.shape, spec.stack), spec.dtype)
        as_words = spec.stack == 4 and self.array.dtype == np.uint8 and sys.byteorder == "little"
        self._words = self.array.view(np.uint32)[..., 0] if as_words else None
        self._newest = np.empty((lanes, *spec.shape), np.uint32) if as_words else None

    def push(self, observation: np.ndarray, started: np.ndarray) -> None:
        """Append [L, *shape]; lanes with `started` begin with their stack full of it."""
        if self._words is not None and self._newest is not None:
            np.right_shift(self._words, 8, out=self._words)
            np.left_shift(observation, 24, out=self._newest, dtype=np.uint32)
            np.bitwise_or(self._words, self._newest, out=self._words)
        elif self._depth > 1:
            self.array[..., :-1] = self.array[..., 1:].copy()
            self.array[..., -1] = observation
        else:
            self.array[..., 0] = observation
        for lane in np.flatnonzero(started):
            self.array[lane] = observation[lane][..., None]

    @property
    def network_input(self) -> np.ndarray:
        """What a network takes: the stack, or for K = 1 the observation itself, [L, *shape]."""
        return self.array[..., 0] if self._depth == 1 else self.array
