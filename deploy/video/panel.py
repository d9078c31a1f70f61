"""What stands beside a film's picture: return, value, success, whose policy acts, and a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from deploy.video.screening import Moment

Colour = tuple[int, int, int]

BACKGROUND: Colour = (24, 26, 31)
_TEXT: Colour = (236, 238, 242)
_QUIET: Colour = (146, 152, 164)
_CURVE: Colour = (96, 176, 255)
_GOOD: Colour = (104, 211, 145)
_LENT: Colour = (255, 184, 92)
_RULE: Colour = (58, 62, 71)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL = 21.0
"""Height of this font's capitals in pixels at scale 1."""
_SMALLEST = 0.36


def panel_width(height: int) -> int:
    """Return how wide a panel of a height is: room for some twenty letters that can be read."""
    return 2 * round(max(150.0, min(300.0, 0.62 * height)) / 2)


class _Point(NamedTuple):
    """The value at a step, and whether another policy than the task's own acted."""

    step: int
    value: float
    lent: bool


class Panel:
    """Draws one task's panel, moment by moment, and remembers the values of its episode."""

    def __init__(self, height: int, policy_name: str) -> None:
        self.height, self.width = height, panel_width(height)
        self._policy = policy_name
        self._letter = max(_SMALLEST, 0.5 * self.width / 260)
        self._margin = round(self.width * 0.06)
        self._line = round(_CAPITAL * self._letter * 2.1)
        self._episode = -1
        self._curve: list[_Point] = []

    def draw(self, moment: Moment) -> UInt8[np.ndarray, "height width 3"]:
        """Return the panel of a moment."""
        self._remember(moment)
        canvas = np.full((self.height, self.width, 3), BACKGROUND, np.uint8)
        y = self._title(canvas, moment)
        for label, text, colour in _rows(moment):
            y += self._line
            self._write(canvas, label, self._margin, y, _QUIET)
            room = self.width - 2 * self._margin - self._extent(label) - self._margin
            fitted = self._fitted(text, room)
            self._write(canvas, fitted, self.width - self._margin - self._extent(fitted), y, colour)
        self._plot(canvas, y + self._line)
        return canvas

    def _remember(self, moment: Moment) -> None:
        if moment.episode != self._episode:
            self._episode, self._curve = moment.episode, []
        new = not self._curve or moment.step > self._curve[-1].step
        if moment.value is not None and not moment.over and new and math.isfinite(moment.value):
            self._curve.append(_Point(moment.step, moment.value, _lent(moment)))
        # More points than pixels only take time.
        if len(self._curve) > 2 * self.width:
            self._curve = self._curve[::2]

    def _title(self, canvas: np.ndarray, moment: Moment) -> int:
        """Write the task's name, and under it how it is played; return where that ended."""
        name = moment.task.partition("/")[2] or moment.task
        y = self._margin + round(_CAPITAL * self._letter)
        room = self.width - 2 * self._margin
        # A long name first grows narrower, then takes two lines, then loses its middle.
        for line in self._lines(name, room):
            self._write(canvas, line, self._margin, y, _TEXT)
            y += round(0.8 * self._line)
        state = "finished" if moment.over else self._policy
        about = f"{state}, episode {moment.episode + 1}" if moment.episode else state
        self._write(canvas, self._fitted(about, room), self._margin, y, _QUIET, 0.86)
        y += round(0.45 * self._line)
        cv2.line(canvas, (self._margin, y), (self.width - self._margin, y), _RULE, 1)
        return y + round(0.1 * self._line)

    def _lines(self, name: str, room: int) -> list[str]:
        if self._extent(name) <= room:
            return [name]
        head, slash, tail = name.rpartition("/")
        if slash:
            return [self._fitted(head, room), self._fitted(tail, room)]
        words = name.split("-")
        middle = math.ceil(len(words) / 2)
        halves = ("-".join(words[:middle]) + "-", "-".join(words[middle:]))
        return [self._fitted(half, room) for half in halves if half not in ("", "-")]

    def _plot(self, canvas: np.ndarray, top: int) -> None:
        """Draw the values so far from `top` down, where there is room for a curve.

        Where another task's policy acted, it has another colour.
        """
        small = 0.78
        label = round(_CAPITAL * self._letter * small)
        left, right = self._margin, self.width - self._margin
        upper = top - round(0.35 * self._line) + label
        lower = self.height - self._margin - label - round(0.9 * label)
        if lower - upper < self._line or not self._curve:
            return
        steps = np.array([point.step for point in self._curve], np.float64)
        values = np.array([point.value for point in self._curve])
        low, high = float(values.min()), float(values.max())
        spread = high - low or 1.0
        # The axis grows by doubling, so that a curve is not redrawn narrower at every step.
        reach = 50.0
        while reach < steps[-1]:
            reach *= 2.0
        x = left + (right - left) * steps / reach
        y = (
            lower - (lower - upper) * (values - low) / spread
            if high > low
            else _flat(values, lower)
        )
        points = np.stack([x, y], 1).round().astype(np.int32)
        cv2.line(canvas, (left, lower + 2), (right, lower + 2), _RULE, 1)
        for lent, colour in ((False, _CURVE), (True, _LENT)):
            parts = [
                points[index : index + 2].reshape(-1, 1, 2)
                for index, point in enumerate(self._curve[:-1])
                if point.lent == lent
            ]
            cv2.polylines(canvas, parts, False, colour, 1, cv2.LINE_AA)
        colour = _LENT if self._curve[-1].lent else _CURVE
        cv2.circle(canvas, tuple(points[-1].tolist()), 2, colour, -1, cv2.LINE_AA)
        base = self.height - self._margin
        self._write(canvas, "value", left, base, _QUIET, small)
        span = f"{number(low)} to {number(high)}"
        start = right - self._extent(span, small)
        if start > left + self._extent("value ", small):
            self._write(canvas, span, start, base, _QUIET, small)

    def _extent(self, text: str, shrunk: float = 1.0) -> int:
        width: int = cv2.getTextSize(text, _FONT, self._letter * shrunk, 1)[0][0]
        return width

    def _fitted(self, text: str, room: int) -> str:
        """Return the text, its middle left out as far as it takes to fit."""
        kept = len(text)
        fitted = text
        while self._extent(fitted) > room and kept > 2:
            kept -= 1
            front = math.ceil(kept / 2)
            fitted = f"{text[:front]}..{text[len(text) - (kept - front) :]}"
        return fitted

    def _write(
        self, canvas: np.ndarray, text: str, x: int, y: int, colour: Colour, shrunk: float = 1.0
    ) -> None:
        cv2.putText(canvas, text, (x, y), _FONT, self._letter * shrunk, colour, 1, cv2.LINE_AA)


def _lent(moment: Moment) -> bool:
    """Whether another policy than the task's own acts."""
    return moment.guide is not None and moment.guide != moment.task


def _flat(values: np.ndarray, lower: int) -> np.ndarray:
    return np.full(values.shape, lower - 2.0)


def _rows(moment: Moment) -> Sequence[tuple[str, str, Colour]]:
    """Return label, text and colour of each line."""
    rows: list[tuple[str, str, Colour]] = [("return", number(moment.return_so_far), _TEXT)]
    if moment.value is not None:
        rows.append(("value", number(moment.value), _CURVE))
    if moment.success is not None:
        waiting = ("no", _QUIET) if moment.over else ("not yet", _QUIET)
        rows.append(("success", *(("yes", _GOOD) if moment.success else waiting)))
    if moment.guide is not None:
        own = not _lent(moment)
        name = "itself" if own else moment.guide.partition("/")[2] or moment.guide
        rows.append(("acts as", name, _TEXT if own else _LENT))
    rows.append(("step", f"{moment.step:,}", _TEXT))
    return rows


def number(value: float) -> str:
    """Return a number as briefly as it can be read: whole ones whole, others to four digits."""
    if not math.isfinite(value):
        return str(value)
    if value == round(value) and abs(value) < 1e7:
        return f"{value:,.0f}"
    if abs(value) >= 1e7:
        return f"{value:.3g}"
    digits = max(0, 3 - max(0, math.floor(math.log10(abs(value)))))
    return f"{value:,.{min(digits, 2)}f}"
