"""Numbers as the terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping

Values = Mapping[str, object]


def number(values: Values, name: str) -> float | None:
    """Return a finite number, or None where the name is missing or holds anything else."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def percent(value: float | None) -> str:
    """Return a share in whole percent, and a dash for none."""
    return "-" if value is None else f"{value:.0%}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 4m07s, 2h05m, 3d04h."""
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minutes}m{second:02d}s" if minutes else f"{second}s"


def short(value: float | None) -> str:
    """Return a number in at most eight characters, and a dash for none."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"
