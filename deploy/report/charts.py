"""Draws curves as inline SVG: light and dark by the page's colours, readable without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from markupsafe import Markup

from deploy.report.curves import Curve
from deploy.report.numbers import compact

COLOURS = 8
"""Groups with a colour of their own; the page's style has as many."""
STROKES = 4
"""Strokes of lines, from the whole one on: groups of one colour have different ones."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a chart, in its own units: about a pixel."""

    width: int
    height: int
    points: int
    """Of each curve, at most."""
    axes: bool
    seeds: bool
    """Whether each seed is drawn too."""


@dataclass(frozen=True, slots=True)
class Level:
    """A value that curves are compared with, drawn across the whole picture."""

    group: int
    value: float
    half_width: float
    """Half of the 95 % interval over seeds; NaN for too few."""
    label: str


LARGE = Size(440, 240, 160, axes=True, seeds=True)
MEDIUM = Size(320, 170, 100, axes=True, seeds=True)
SPARK = Size(200, 70, 50, axes=False, seeds=False)


def style_of(group: int) -> str:
    """Return the classes of a group's colour and, beyond the first eight groups, of its stroke."""
    stroke = group // COLOURS % STROKES
    return f"g{group % COLOURS}" + (f" s{stroke}" if stroke else "")


def chart(
    curves: Sequence[Curve],
    size: Size,
    label: str,
    *,
    levels: Sequence[Level] = (),
    y_range: tuple[float, float] | None = None,
    x_end: float | None = None,
    percent: bool = False,
) -> Markup:
    """Return a chart of curves over agent steps, with what a hovering pointer needs to read it."""
    low, high = y_range or _range(curves, [level.value for level in levels])
    start = min((float(c.x[0]) for c in curves if len(c.x)), default=0.0)
    if x_end is None or start < 0.5 * x_end:
        start = min(start, 0.0)
    end = x_end or max((float(x[-1]) for c in curves for x, _ in c.seeds), default=1.0)
    end = end if end > start else start + 1.0
    ticks = _ticks(low, high, 5)
    words = [_tick_text(tick, percent) for tick in ticks]
    left = 10.0 + 6.6 * max(map(len, words), default=0) if size.axes else 1.0
    box = _Box(left, 8.0, size.width - left - 12, size.height - (32.0 if size.axes else 10.0))
    frame = _Frame(box, start, end, low, high)
    parts = [
        Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" data-box="{}" '
            'data-domain="{}">'
        ).format(
            size.width,
            size.height,
            label,
            " ".join(f"{value:g}" for value in (box.x, box.y, box.width, box.height)),
            f"{start:g} {end:g} {low:.6g} {high:.6g}{' %' if percent else ''}",
        )
    ]
    if size.axes:
        parts.append(_axes(frame, ticks, words))
    else:
        base = f"M{box.x:g} {box.y + box.height:g}h{box.width:g}"
        parts.append(Markup('<path class="base" d="{}"/>').format(base))
    parts.append(
        # An inner picture, because it is clipped by itself: clip paths need names for the page.
        Markup('<svg x="{0:g}" y="{1:g}" width="{2:g}" height="{3:g}" viewBox="{4}">').format(
            box.x,
            box.y - 3,
            box.width + 4,
            box.height + 6,
            f"{box.x:g} {box.y - 3:g} {box.width + 4:g} {box.height + 6:g}",
        )
    )
    for curve in curves:
        parts.append(_band(curve, frame))
    for level in levels:
        parts.append(_level(level, frame))
    for curve in curves:
        parts.append(_lines(curve, frame, seeds=size.seeds))
    parts.append(_level_names(levels, frame) if size.axes else Markup(""))
    parts.append(Markup("</svg></svg>"))
    return Markup("").join(parts)


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps agent steps and values to places in the box."""

    box: _Box
    start: float
    end: float
    low: float
    high: float

    def x(self, steps: float) -> float:
        return self.box.x + self.box.width * (steps - self.start) / (self.end - self.start)

    def y(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return self.box.y + self.box.height * (1.0 - part)

    def path(self, x: Float64[np.ndarray, " K"], y: Float64[np.ndarray, " K"]) -> str:
        return "".join(
            f"{'L' if place else 'M'}{_short(self.x(float(a)))} {_short(self.y(float(b)))}"
            for place, (a, b) in enumerate(zip(x, y, strict=True))
        )


def _axes(frame: _Frame, ticks: Sequence[float], words: Sequence[str]) -> Markup:
    box = frame.box
    parts = []
    for tick, word in zip(ticks, words, strict=True):
        y = frame.y(tick)
        parts.append(
            Markup(
                '<path class="grid" d="M{:g} {:.1f}h{:g}"/>'
                '<text class="tick" x="{:g}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(box.x, y, box.width, box.x - 6, y + 3.5, word)
        )
    for tick in _ticks(frame.start, frame.end, max(2, int(box.width // 90))):
        x = frame.x(tick)
        near_end = x > box.x + box.width - 14
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{:g}" text-anchor="{}">{}</text>').format(
                x + (12 if near_end else 0),
                box.y + box.height + 17,
                "end" if near_end else "middle",
                compact(tick),
            )
        )
    return Markup("").join(parts)


def _band(curve: Curve, frame: _Frame) -> Markup:
    if len(curve.x) < 2 or not np.isfinite(curve.low).all():
        return Markup("")
    around = np.concatenate([curve.x, curve.x[::-1]])
    ends = np.concatenate([curve.high, curve.low[::-1]])
    span = frame.high - frame.low
    ends = ends.clip(frame.low - span, frame.high + span)
    return Markup('<path class="band {}" d="{}Z"/>').format(
        style_of(curve.group), frame.path(around, ends)
    )


def _level(level: Level, frame: _Frame) -> Markup:
    ends = np.array([frame.start, frame.end])
    return Markup('<path class="line level {}" data-group="{}" data-name="{}" d="{}"/>').format(
        style_of(level.group),
        level.group,
        level.label,
        frame.path(ends, np.full(2, level.value)),
    )


def _level_names(levels: Sequence[Level], frame: _Frame) -> Markup:
    """Write what levels are at their right ends, where neither name nor line is in the way."""
    parts = []
    lines = [frame.y(level.value) for level in levels]
    written: list[float] = []
    for level, line in zip(levels, lines, strict=True):
        for y in (line - 4, line + 12):
            clear = all(not y - 10 < other < y + 2 for other in lines if other != line)
            inside = frame.box.y + 8 < y < frame.box.y + frame.box.height
            if inside and clear and all(abs(y - other) >= 12 for other in written):
                written.append(y)
                x = frame.box.x + frame.box.width
                parts.append(
                    Markup('<text class="tick" x="{:.1f}" y="{:.1f}" {}>{}</text>').format(
                        x, y, Markup('text-anchor="end"'), level.label
                    )
                )
                break
    return Markup("").join(parts)


def _lines(curve: Curve, frame: _Frame, *, seeds: bool) -> Markup:
    parts = []
    style = style_of(curve.group)
    if seeds and len(curve.seeds) > 1:
        for x, y in curve.seeds:
            parts.append(Markup('<path class="seed {}" d="{}"/>').format(style, frame.path(x, y)))
    if len(curve.x) == 1:
        parts.append(
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(
                style, _short(frame.x(curve.x[0])), _short(frame.y(curve.middle[0]))
            )
        )
    elif len(curve.x):
        parts.append(
            Markup('<path class="line {}" data-group="{}" d="{}"/>').format(
                style, curve.group, frame.path(curve.x, curve.middle)
            )
        )
    return Markup("").join(parts)


def _range(curves: Sequence[Curve], levels: Sequence[float] = ()) -> tuple[float, float]:
    """Return what seeds and levels span, and the intervals as far as they stay near it."""
    values = np.concatenate([y for c in curves for _, y in c.seeds] or [np.zeros(1)])
    values = np.append(values, levels)
    low, high = float(values.min()), float(values.max())
    span = high - low
    for curve in curves:
        if len(curve.x) and np.isfinite(curve.low).all():
            bottom = float(curve.low.min())
            top = float(curve.high.max())
            low = min(low, max(bottom, low - 0.25 * span))
            high = max(high, min(top, high + 0.25 * span))
    if high - low < 1e-12 * max(1.0, abs(high)):
        pad = abs(high) * 0.1 or 1.0
        return (low - pad if low else 0.0), high + pad
    # A scale that nearly reaches zero is easier to judge where it does.
    if 0.0 < low < 0.35 * high:
        low = 0.0
    return low, high + 0.04 * (high - low)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return round numbers in a range: 1, 2, 2.5 or 5 times a power of ten apart."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _tick_text(value: float, percent: bool) -> str:
    return f"{100 * value:g} %" if percent else compact(value)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
