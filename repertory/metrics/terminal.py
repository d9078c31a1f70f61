"""Shows a run on the terminal: a live view on a tty, one line per row anywhere else."""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.live import Live

from repertory.metrics import names
from repertory.metrics.terminal_layout import plain_line, view

_ROWS_OF_A_RATE = 12
"""Rates that no row states are taken over so many rows, a minute at the usual interval."""
_FONT_FACE = re.compile(r"@font-face \{.*?\}", re.DOTALL)


class TerminalView:
    """A metric sink for people. It keeps the newest value of each name, so rows may be partial."""

    def __init__(
        self,
        tasks: Sequence[str],
        total_steps: int,
        title: str,
        *,
        console: Console | None = None,
        live: bool | None = None,
    ) -> None:
        self._tasks = tuple(tasks)
        self._total_steps = total_steps
        self._title = title
        self._console = console if console is not None else Console()
        self._values: dict[str, float | int | str] = {}
        self._axes: deque[dict[str, float | int | str]] = deque(maxlen=_ROWS_OF_A_RATE)
        if live is None:
            live = self._console.file.isatty() and not os.environ.get("CI")
        # Refreshed by rows alone: a thread that redraws would share the values with `write`.
        self._live = Live(console=self._console, auto_refresh=False) if live else None

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Show one row."""
        self._values.update(row)
        if names.ENV_STEPS in row:
            self._axes.append({axis: row[axis] for axis in names.X_AXES if axis in row})
        earlier = self._axes[0] if self._axes else {}
        if self._live is not None:
            if not self._live.is_started:
                self._live.start()
            height = self._console.size.height - 1
            self._live.update(
                view(self._values, earlier, self._tasks, self._total_steps, self._title, height),
                refresh=True,
            )
        elif names.ENV_STEPS in row:
            # Past rich, which would wrap the line where there is no width to wrap at.
            self._console.file.write(plain_line(self._values, earlier, self._total_steps) + "\n")
            self._console.file.flush()

    def close(self) -> None:
        """Leave the last view on the screen and give the cursor back."""
        if self._live is not None and self._live.is_started:
            self._live.stop()


def render_svg(
    rows: Iterable[Mapping[str, float | int | str]],
    *,
    tasks: Sequence[str],
    total_steps: int,
    title: str,
    width: int = 100,
    height: int = 30,
) -> str:
    """Return the view after the given rows as an SVG picture that loads nothing from elsewhere."""
    values: dict[str, float | int | str] = {}
    axes: deque[dict[str, float | int | str]] = deque(maxlen=_ROWS_OF_A_RATE)
    for row in rows:
        values.update(row)
        if names.ENV_STEPS in row:
            axes.append({axis: row[axis] for axis in names.X_AXES if axis in row})
    console = Console(
        record=True, width=width, height=height, file=io.StringIO(), force_terminal=True
    )
    console.print(view(values, axes[0] if axes else {}, tasks, total_steps, title, height))
    picture = console.export_svg(title="repertory", unique_id="repertory")
    return _FONT_FACE.sub("", picture)
