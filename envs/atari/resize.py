"""Area resize of a screen to a square observation, redone only where the screen has changed."""

from __future__ import annotations

import math
import re

import cv2
import numpy as np

# One byte per band, 1 where it changed; over a gap of two, resizing costs less than a second call.
_CHANGED_BANDS = re.compile(rb"\x01(?:\x00{0,2}\x01)*")


class AreaResize:
    """cv2.resize with INTER_AREA, equal to the byte to resizing every screen whole.

    A screen of 210 rows becomes 84: five rows make two, and no other row has a part in them. Only
    such bands as changed since the screen before are resized, in most games less than half.
    """

    def __init__(self, screen_shape: tuple[int, int], size: int) -> None:
        """Take screens of `screen_shape`, rows and columns, to [size, size]."""
        height, width = screen_shape
        bands = math.gcd(height, size)
        self._rows, self._rows_after = height // bands, size // bands
        # Rows are weighed by the fractions that dy * height / size leaves: the same in a band as in
        # the whole screen where the product has no rounding error. Enlarging is not by area.
        exact = self._rows_after.bit_count() == 1 and height >= size
        if not exact or self._rows * width % 8:
            bands, self._rows, self._rows_after = 1, height, size
        self._words = (bands, -1)
        self._width = size
        self._shown = np.zeros((height, width), dtype=np.uint8)
        self._result = np.zeros((size, size), dtype=np.uint8)
        self._shown_bands = _words(self._shown).reshape(self._words)
        self._changed = np.empty(self._shown_bands.shape, dtype=np.bool_)

    def __call__(self, screen: np.ndarray, observation: np.ndarray) -> None:
        """Write `screen` resized into `observation`."""
        np.not_equal(_words(screen).reshape(self._words), self._shown_bands, out=self._changed)
        changed = self._changed.any(axis=1).tobytes()
        for run in _CHANGED_BANDS.finditer(changed):
            first, stop = run.span()
            before = slice(first * self._rows, stop * self._rows)
            after = slice(first * self._rows_after, stop * self._rows_after)
            cv2.resize(
                screen[before],
                (self._width, after.stop - after.start),
                dst=self._result[after],
                interpolation=cv2.INTER_AREA,
            )
            self._shown[before] = screen[before]
        observation[:] = self._result


def _words(screen: np.ndarray) -> np.ndarray:
    return screen.view(np.uint64) if screen.shape[1] % 8 == 0 else screen
