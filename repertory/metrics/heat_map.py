"""A matrix of shares or cosines as a picture, drawn with numpy alone: cells, hundredths, indices.

Axes: M rows, C columns of the matrix; Y, X pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

_LONGEST = 900
"""Pixels of the matrix's longer side, where its cells have room to be read."""
_SMALLEST, _LARGEST = 12, 64
_HUNDREDTHS_FROM = 26
"""Cells so large hold their value in hundredths."""
# Three bits a line, five lines: the digits' shapes.
_DIGITS = (
    (7, 5, 5, 5, 7),
    (2, 6, 2, 2, 7),
    (7, 1, 7, 4, 7),
    (7, 1, 7, 1, 7),
    (5, 5, 7, 1, 1),
    (7, 4, 7, 1, 7),
    (7, 4, 7, 5, 7),
    (7, 1, 2, 2, 2),
    (7, 5, 7, 5, 7),
    (7, 5, 7, 1, 7),
)
_HEIGHT, _ADVANCE = 5, 4
# White, blue, nearly black: brightness falls evenly, so the picture also reads without colours.
_STOPS = np.array([0.0, 0.5, 1.0])
_COLOURS = np.array([[255, 255, 255], [90, 160, 210], [8, 30, 80]], np.float64)
# White, red, nearly black: what is below zero.
_BELOW = np.array([[255, 255, 255], [225, 125, 100], [90, 15, 20]], np.float64)
_UNKNOWN = (205, 205, 205)
_GRID = (225, 225, 225)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class MatrixPicture:
    """A matrix to be shown as a heat map at some point of a run."""

    name: str
    caption: str
    axes: Mapping[str, float | int]
    values: Float64[np.ndarray, "M C"]


def heat_map(values: Float64[np.ndarray, "M C"]) -> UInt8[np.ndarray, "Y X 3"]:
    """Draw values in [-1, 1], those below 0 in red, NaN in grey.

    Cells hold hundredths without their sign; indices stand left of the rows and above the columns.
    """
    rows, columns = values.shape
    side = min(_LARGEST, max(_SMALLEST, _LONGEST // max(rows, columns)))
    scale = _scale(max(rows, columns) - 1, side)
    top = (_HEIGHT + 4) * scale
    left = (_width(max(rows - 1, 0)) + 4) * scale
    picture = np.full((top + rows * side + 1, left + columns * side + 1, 3), 255, np.uint8)
    for row in range(rows):
        _write(picture, row, (top + row * side, 0, side, left), _BLACK, scale)
        for column in range(columns):
            y, x = top + row * side, left + column * side
            value = float(values[row, column])
            colour = _colour(value)
            # One pixel of grid remains between two cells.
            picture[y : y + side + 1, x : x + side + 1] = _GRID
            picture[y + 1 : y + side, x + 1 : x + side] = colour
            if side >= _HUNDREDTHS_FROM and abs(value) >= 0.005:
                ink = _BLACK if sum(colour) > 380 else _WHITE
                _write(picture, round(100 * abs(value)), (y, x, side, side), ink, 2)
    for column in range(columns):
        _write(picture, column, (0, left + column * side, top, side), _BLACK, scale)
    return picture


def _colour(value: float) -> tuple[int, int, int]:
    if np.isnan(value):
        return _UNKNOWN
    stops = _BELOW if value < 0 else _COLOURS
    red, green, blue = (round(float(np.interp(abs(value), _STOPS, stops[:, c]))) for c in range(3))
    return red, green, blue


def _scale(largest: int, side: int) -> int:
    """Return the size of digits with which the largest index fits over a column."""
    return max(1, min(3, side // (_width(largest) + 1)))


def _width(number: int) -> int:
    return _ADVANCE * len(str(number)) - 1


def _write(
    picture: np.ndarray,
    number: int,
    area: tuple[int, int, int, int],
    ink: tuple[int, int, int],
    scale: int,
) -> None:
    """Write a number into the middle of an area (y, x, height, width)."""
    y, x, height, width = area
    y += (height - _HEIGHT * scale) // 2
    x += (width - _width(number) * scale) // 2
    for place, digit in enumerate(str(number)):
        lines = np.array(_DIGITS[int(digit)])
        shape = (lines[:, None] >> np.array([2, 1, 0])) & 1
        mask = shape.repeat(scale, 0).repeat(scale, 1).astype(np.bool_)
        start = x + place * _ADVANCE * scale
        picture[y : y + mask.shape[0], start : start + mask.shape[1]][mask] = ink
