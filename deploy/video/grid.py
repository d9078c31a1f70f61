"""Pictures of several tasks and their panels as one picture of unchanging size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from deploy.video.panel import BACKGROUND, Panel
from deploy.video.screening import Moment

MOST_TASKS = 64
"""More are no longer a picture."""
_WANTED_HEIGHT = {1: 400, 4: 300}
"""Of a cell, by the number of cells up to which it holds; more cells are as high as they come."""
_SHAPE = 16 / 9
_GAP = 4


class Grid:
    """Puts the moments of a film's tasks side by side, each picture scaled by a whole number.

    Sizes are those of the first moments; smaller pictures stand in the middle of their cell.
    """

    def __init__(
        self,
        policy_name: str,
        *,
        panel: bool = True,
        scale: int | None = None,
        smooth: bool = False,
    ) -> None:
        """Choose a scale where none is given: legible panels, or without them the screen's own.

        A console's pixels stay squares; `smooth` is for pictures of worlds.
        """
        self._policy, self._with_panel, self._scale = policy_name, panel, scale
        self._enlarging = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
        self._panels: list[Panel] = []
        self._cell = (0, 0)
        self._columns = 0

    def draw(self, moments: Sequence[Moment]) -> UInt8[np.ndarray, "height width 3"]:
        """Return one picture of all moments, in rows from the left."""
        if not self._columns:
            self._plan(moments)
        height, width = self._cell
        rows = math.ceil(len(moments) / self._columns)
        gap = _GAP if len(moments) > 1 else 0
        whole = np.full(
            (rows * (height + gap) - gap, self._columns * (width + gap) - gap, 3), 0, np.uint8
        )
        for position, moment in enumerate(moments):
            row, column = divmod(position, self._columns)
            top, left = row * (height + gap), column * (width + gap)
            whole[top : top + height, left : left + width] = self._drawn(position, moment)
        return whole

    def _plan(self, moments: Sequence[Moment]) -> None:
        height = max(moment.picture.shape[0] for moment in moments)
        width = max(moment.picture.shape[1] for moment in moments)
        if self._scale is None:
            wanted = next((h for most, h in _WANTED_HEIGHT.items() if len(moments) <= most), 0)
            self._scale = max(1, math.ceil(wanted / height)) if self._with_panel else 1
        height, width = height * self._scale, width * self._scale
        if self._with_panel:
            self._panels = [Panel(height, self._policy) for _ in moments]
            width += self._panels[0].width
        self._cell = (height, width)
        self._columns = min(
            range(1, len(moments) + 1), key=lambda columns: self._badness(columns, len(moments))
        )

    def _badness(self, columns: int, cells: int) -> float:
        """Return how far so many columns are from a screen's shape, empty cells counted."""
        height, width = self._cell
        rows = math.ceil(cells / columns)
        empty = rows * columns - cells
        return abs(math.log(columns * width / (rows * height) / _SHAPE)) + 0.5 * empty / cells

    def _drawn(self, position: int, moment: Moment) -> np.ndarray:
        height, width = self._cell
        cell = np.full((height, width, 3), BACKGROUND if self._with_panel else (0, 0, 0), np.uint8)
        scale = self._scale or 1
        picture = cv2.resize(
            np.ascontiguousarray(moment.picture), None, None, scale, scale, self._enlarging
        )
        room = width
        if self._with_panel:
            panel = self._panels[position].draw(moment)
            room -= panel.shape[1]
            cell[:, room:] = panel
        top, left = (height - picture.shape[0]) // 2, (room - picture.shape[1]) // 2
        cell[:, :room] = 0
        cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return cell
