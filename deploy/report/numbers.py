"""Numbers as a reader wants them: short, with their interval, missing ones as a dash."""

from __future__ import annotations

import math

MISSING = "–"
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def compact(value: float | int) -> str:
    """Return at most three digits and a unit: 1.5M, 20k, 0.25."""
    if not math.isfinite(value):
        return MISSING
    for unit, letter in _UNITS:
        if abs(value) >= unit * 0.9995:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def digits_of(value: float) -> int:
    """Return how many digits after the point matter in a number of this size."""
    size = abs(value)
    return 0 if size >= 1000 or size == round(size) else 1 if size >= 10 else 2


def plain(value: float, digits: int | None = None) -> str:
    """Return a number with thousands apart; `digits` after the point, or as many as matter."""
    if not math.isfinite(value):
        return MISSING
    digits = digits_of(value) if digits is None else digits
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percentage(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else MISSING


def with_interval(value: float, half_width: float, *, percent: bool = False) -> str:
    """Return a number and, where there is any, half the width of its interval."""
    known = math.isfinite(half_width) and half_width > 0
    if percent:
        return f"{percentage(value)} ± {100 * half_width:.0f}" if known else percentage(value)
    if not known:
        return plain(value)
    digits = digits_of(value) or digits_of(half_width) if abs(value) < 1000 else 0
    return f"{plain(value, digits)} ± {plain(half_width, digits)}"


def duration(seconds: float) -> str:
    """Return hours and minutes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
