"""Waiting for what another process does, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def awaited(what: Callable[[], Any], called: str = "what was waited for", *, for_s: float) -> Any:
    """Return the first answer that is not empty; fail when none has come in that time."""
    deadline = time.monotonic() + for_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"{called} has not come within {for_s:.0f} s"
        time.sleep(0.1)
    return found
