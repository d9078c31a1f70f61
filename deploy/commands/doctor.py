"""`repertory doctor`: this machine, the cluster, and one round trip through every port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy import address, left_over
from deploy.checks import Finding, guarded, machine
from deploy.commands import Page, parse
from repertory.config import Settings
from repertory.recipes import get

USAGE = "repertory doctor [options]"
_STYLES = {"ok": "green", "warning": "yellow", "broken": "bold red"}


class Options(Settings):
    """Where to look."""

    address: str = ""
    """Ray cluster to look at too, HOST:PORT or auto."""
    runs_dir: Path = Path("runs")
    """Folder that runs are to be kept in."""
    clean: bool = False
    """End what killed runs have left behind: Ray's helper processes, of our own clusters only."""


def page() -> Page:
    """Return the help."""
    return Page(USAGE, "Exit code 1 when something that every run needs is broken.", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Print what was found; 1 if something is broken."""
    options = parse(Options, tokens, USAGE)
    findings = list(_findings(options))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.status, style=_STYLES[finding.status]), finding.what, Text(finding.detail)
        )
    Console().print(table)
    broken = [finding.what for finding in findings if finding.status == "broken"]
    if broken:
        print(f"broken: {', '.join(broken)}")
    return 1 if broken else 0


def _findings(options: Options) -> Iterator[Finding]:
    yield from machine(options.runs_dir)
    yield guarded("left over", lambda: remains(end=options.clean))
    yield guarded("round trip", round_trip)
    if options.address:
        yield guarded("cluster", lambda: _cluster(options.address))


def remains(*, end: bool) -> Finding:
    """Look for processes of clusters whose driver was killed, and end them if asked to."""
    found = left_over.left_over()
    if not found:
        return Finding("left over", "ok", "no process of a killed run")
    told = ", ".join(left_over.named(process) for process in found)
    if not end:
        cure = "`repertory doctor --clean` ends them"
        return Finding("left over", "warning", f"of killed runs: {told}; {cure}")
    stayed = left_over.end(found)
    if stayed:
        pids = ", ".join(str(process.pid) for process in stayed)
        return Finding("left over", "warning", f"could not end {pids}, of {told}")
    return Finding("left over", "ok", f"ended {told}")


def round_trip() -> Finding:
    """Send counted observations through lanes, unroll, queue, update and back as new weights."""
    from deploy.local import LocalRun

    run = LocalRun(get("debug-counting").config)
    try:
        before = run.weights.latest
        run.round()
        after = run.weights.latest
        if before is None or after is None or after.version <= before.version:
            return Finding("round trip", "broken", "an unroll was played, but no weights came back")
        if not run.experience.steps:
            return Finding("round trip", "broken", "the queues counted no steps")
        detail = (
            f"{run.experience.steps} steps through lanes, unrolls and queues; "
            f"{run.loop.updates} updates; weights {before.version} -> {after.version}"
        )
        return Finding("round trip", "ok", detail)
    finally:
        run.close()


def _cluster(where: str) -> Finding:
    address.probe(where)
    import ray

    from deploy.cluster.ray_session import ray_session

    config = get("debug-counting").config
    joined = config.model_copy(update={"runtime": "cluster", "address": where})
    with ray_session(joined):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        resources = ray.cluster_resources()
    return Finding(
        "cluster",
        "ok",
        f"{len(nodes)} nodes, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs, "
        f"{resources.get('memory', 0) / 2**30:.0f} GiB",
    )
