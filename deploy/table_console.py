"""How tables are printed: as wide as the terminal, wide enough where there is none, never cut."""

from __future__ import annotations

from rich.console import Console

WIDTH = 120
"""Columns of a file or a pipe, for which rich would take 80 and fold the tables."""


def table_console() -> Console:
    """Return a console on standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDTH))


def longest_word(*texts: str) -> int:
    """Return the least width of a column in which these texts are folded and no word is cut."""
    return max((len(word) for text in texts for word in text.split()), default=0)
