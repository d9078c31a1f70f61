"""The random streams of a lane, drawn outside the emulator so that they can be saved and resumed.

The emulator forgets which action its sticky actions are holding when its state is saved and
restored: a lane resumed in the middle of an episode would now and then play another action. So the
lane decides itself, and the emulator's own chance is set to 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from repertory.ports import State

_BLOCK = 512


class StickyActions:
    """Per emulated frame, whether the action before is repeated (Machado et al. 2018, section 5.2).

    The draws are those of the emulator for the same seed: a 32-bit Mersenne twister, two draws per
    frame, of which the second is for an absent second player.
    """

    def __init__(self, probability: float, seed: int) -> None:
        """Start the stream of `seed`, in [0, 2**32)."""
        self._threshold = float(np.float32(probability)) * 2.0**32
        self._generator = np.random.MT19937()
        # Seeding by one integer, as the C++ standard library does it, is only offered here.
        seeded: Any = np.random.RandomState(seed).get_state(legacy=False)
        self._generator.state = seeded
        self.pending: list[bool] = []
        """Drawn and not used; the next frame's is the last."""

    def ensure(self, frames: int) -> list[bool]:
        """Return `pending` with at least so many frames' decisions; the caller pops them."""
        pending = self.pending
        if len(pending) < frames:
            draws = np.asarray(self._generator.random_raw(2 * max(_BLOCK, frames)))[::2]
            pending[:0] = (draws < self._threshold)[::-1].tolist()
        return pending

    def state(self) -> State:
        """Return the stream's position."""
        inner: dict[str, Any] = self._generator.state["state"]  # type: ignore[assignment]
        return {
            "key": np.array(inner["key"], dtype=np.uint32),
            "position": int(inner["pos"]),
            "pending": np.array(self.pending, dtype=np.bool_),
        }

    def restore(self, state: State) -> None:
        """Go on from a position."""
        key = np.asarray(state["key"], dtype=np.uint32)
        self._generator.state = {
            "bit_generator": "MT19937",
            "state": {"key": key, "pos": int(state["position"])},
        }
        self.pending[:] = np.asarray(state["pending"]).tolist()
