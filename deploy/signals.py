"""Ctrl-C and SIGTERM end a run with a checkpoint; the second one ends it at once."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

TOGETHER_S = 1.0
"""Signals so close are one request: `timeout` and container runtimes signal a process and then its
group, which it is in too.
"""


class StopRequest:
    """While entered, the first SIGINT or SIGTERM is only noted; handlers are put back on
    leaving.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._noted_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def rearm(self) -> None:
        """Put the handlers back in place after a library replaced them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._noted_at = number, now
        elif now - self._noted_at >= TOGETHER_S:
            # Not by way of stderr's own buffer, which the interrupted code may be writing to.
            os.write(2, b"repertory: ended at once, without a last checkpoint\n")
            os._exit(128 + number)

    def __bool__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells have it; 0 when no stop was asked for."""
        return 0 if self.signal is None else 128 + self.signal
