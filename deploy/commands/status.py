"""`repertory status`: a cluster's runs, where their parts are, and what its nodes have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.commands import Page, parse
from repertory.config import Settings

USAGE = "repertory status [options]"
_PARTS = {
    "WorkerHost": "worker",
    "LearnerHost": "learner",
    "ReplayHost": "replay",
    "EvaluatorHost": "evaluator",
}


class Options(Settings):
    """Which cluster."""

    address: str = "http://127.0.0.1:8265"
    """The cluster's Jobs API: the dashboard of its head."""
    all: bool = False
    """List jobs that have ended too."""


def page() -> Page:
    """Return the help."""
    described = "Needs the cluster's token, as `repertory submit` does; changes nothing."
    return Page(USAGE, described, (Options,))


def run(tokens: Sequence[str]) -> int:
    """Print tables of jobs, parts and nodes."""
    options = parse(Options, tokens, USAGE)
    from deploy.jobs.client import Jobs

    jobs = Jobs(options.address)
    console = Console()
    listed = [job for job in jobs.listed() if options.all or not job.ended]
    if listed:
        rows = [(j.run, j.identity, j.status, _when(j.started_ms), j.last_line) for j in listed]
        console.print(_table(("run", "job", "status", "since (UTC)", "last line"), rows))
    else:
        print("no job is under way" + ("" if options.all else "; --all lists those that ended"))
    nodes = jobs.nodes()
    places = jobs.places()
    table = []
    for node in nodes:
        parts = Counter(_PARTS.get(name, name) for name, where in places if where == node.identity)
        table.append(
            (
                node.address,
                node.role,
                node.market,
                f"{node.resources.get('CPU', 0):g}",
                f"{node.resources.get('GPU', 0):g}",
                ", ".join(f"{count} {part}" for part, count in sorted(parts.items())),
            )
        )
    console.print(_table(("node", "role", "market", "cores", "GPUs", "parts"), table))
    return 0


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _when(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%m-%d %H:%M:%S}"
