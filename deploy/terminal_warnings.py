"""Warnings that parts of the program log, as lines that begin like every other of the command's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from repertory.redaction import without_secrets


class TerminalWarnings(logging.Handler):
    """Warnings as lines on whatever stderr is at the moment (a live view puts its own there)."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        text = without_secrets(" ".join(record.getMessage().split()))
        print(f"repertory: warning: {text}", file=sys.stderr)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Print what is logged as a warning inside."""
    handler = TerminalWarnings()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
