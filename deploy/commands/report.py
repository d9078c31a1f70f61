"""`repertory report RUN ...`: one HTML page of curves, tables and maps that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from deploy.commands import Page, parse
from deploy.terminal_warnings import warnings_shown
from repertory.config import Settings
from repertory.errors import BadInput

USAGE = "repertory report RUN [RUN ...] [--out FILE] [options]"


class Options(Settings):
    """What to report on, and where to."""

    runs: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Directories of runs, or directories that hold runs."""
    out: Path | None = None
    """File to write; without it, report.html in the one directory given, or in this one."""
    reference: tuple[Path, ...] = ()
    """Runs whose evaluations count as 1 in normalised scores; random play counts as 0, so
    `repertory evaluate RUN --policy greedy random` must have been run."""


def page() -> Page:
    """Return the help."""
    return Page(USAGE, "Write curves, tables and maps of runs as one HTML page.", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Write the page, and say where and what is in it."""
    chosen = parse(Options, tokens, USAGE, ["runs"])
    if not chosen.runs:
        raise BadInput(f"RUNS is missing; usage: {USAGE}")
    if chosen.out is not None:
        _check(chosen.out)
    from deploy.report.grouping import grouped
    from deploy.report.runs import find, read

    with warnings_shown():
        paths, references = find(chosen.runs), find(chosen.reference)
    out = chosen.out or (chosen.runs[0] if len(chosen.runs) == 1 else Path()) / "report.html"
    out = out.expanduser()
    _check(out)

    from deploy.report import page as pages

    with warnings_shown():
        runs = [read(path) for path in paths]
        groups = grouped(runs)
        text = pages.render(groups, [read(path) for path in references], out)
    try:
        pages.write(out, text)
    except OSError as error:
        raise BadInput(f"cannot write {out}: {error.strerror}") from error
    seeds = f"{len(runs)} run{'s' if len(runs) > 1 else ''} in {len(groups)} group"
    print(f"{out}: {seeds}{'s' if len(groups) > 1 else ''}, {len(text) / 1e6:.1f} MB")
    return 0


def _check(out: Path) -> None:
    out = out.expanduser()
    if out.is_dir():
        raise BadInput(f"--out {out} is a directory; name a file, such as {out / 'report.html'}")
    if not out.parent.is_dir():
        raise BadInput(f"--out {out}: there is no directory {out.parent}")
