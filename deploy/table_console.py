"""Where tables are printed: as wide as the terminal, and wide enough where there is none."""

from __future__ import annotations

from rich.console import Console

WIDTH = 120
"""Columns of a file or a pipe, for which rich would take 80 and fold the tables."""


def table_console() -> Console:
    """Return a console on standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDTH))
