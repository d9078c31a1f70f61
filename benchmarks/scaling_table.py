"""What `repertory bench scaling` measures, as a table for the terminal and for a Markdown file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from rich.table import Table

from repertory.errors import BadInput

BEGIN = "<!-- repertory bench scaling --markdown: begin -->"
END = "<!-- repertory bench scaling --markdown: end -->"


@dataclass(frozen=True)
class Measured:
    """One number of workers over the window. CPU is of all threads; rates are per wall second."""

    workers: int
    steps_per_s: float
    ideal_share: float | None
    """Of workers x lanes / step time; none where steps do not sleep a set time."""
    learner_waiting: float
    """Share of the time in which the learner waited for a batch."""
    lag_versions: float
    publications_per_s: float
    publication_kib: float
    pull_ms: float
    """Median over requests of another process, from asking for the weights to holding them."""
    heartbeat_ms: float
    """Median of the driver's look at learner and workers, twice a second."""
    unrolls_per_s: float
    learner_cpu_ms: float
    """Per unroll, as are all that follow; of the whole process, updates included."""
    event_loop_cpu_ms: float
    """Of the one thread that takes deliveries and answers requests for weights."""
    updates_cpu_ms: float
    """Of the threads that fill batches and learn from them."""
    driver_cpu_ms: float
    ray_cpu_ms: float
    """Of raylet, GCS and Ray's other processes."""
    worker_cpu_ms: float
    worker_pss_mib: float
    """Of the largest worker: shared pages count in their share."""
    learner_pss_mib: float
    cores_busy: float
    others_busy: float
    """Cores that other processes of the machine took meanwhile: above 0.1, do it again."""
    replaced: int
    """Workers that died during the run; above 0 the figures are worth nothing."""


COLUMNS = {
    "steps_per_s": ("steps/s", ",.0f"),
    "ideal_share": ("of ideal", ".0%"),
    "learner_waiting": ("learner waits", ".0%"),
    "lag_versions": ("lag, versions", ".1f"),
    "publications_per_s": ("publications/s", ".1f"),
    "publication_kib": ("KiB each", ",.0f"),
    "pull_ms": ("pull, ms", ".1f"),
    "heartbeat_ms": ("heartbeat, ms", ".1f"),
    "unrolls_per_s": ("unrolls/s", ",.1f"),
    "learner_cpu_ms": ("learner", ".2f"),
    "event_loop_cpu_ms": ("its event loop", ".2f"),
    "updates_cpu_ms": ("its updates", ".2f"),
    "driver_cpu_ms": ("driver", ".2f"),
    "ray_cpu_ms": ("Ray", ".2f"),
    "worker_cpu_ms": ("worker", ".2f"),
    "worker_pss_mib": ("worker MiB", ",.0f"),
    "learner_pss_mib": ("learner MiB", ",.0f"),
    "cores_busy": ("cores", ".2f"),
    "others_busy": ("others' cores", ".2f"),
    "replaced": ("replaced", "d"),
}
"""Heading and format of every figure."""
PARTS = {
    "learner": "learner",
    "event_loop": "its event loop",
    "updates": "its updates",
    "driver": "driver",
    "ray": "Ray",
}
"""What is fitted, and what the table calls it."""
ATARI_UNROLLS_PER_S = 3.4
"""Of a worker on the shallow network: 2,200 agent steps per second in 32 lanes of 20 steps."""


def markdown(rows: Sequence[Measured], command: str) -> str:
    """Return the table as Markdown, with the command that it was taken with."""
    lines = [
        f"`{command}` on {psutil.cpu_count()} cores. Learner, driver, Ray and worker: CPU "
        "milliseconds per unroll.",
        "",
        f"| workers | {' | '.join(str(row.workers) for row in rows)} |",
        "| --- |" + " ---: |" * len(rows),
    ]
    lines += [f"| {heading} | {' | '.join(cells)} |" for heading, cells in _cells(rows)]
    if len(rows) > 1:
        lines += ["", *_extrapolated(rows)]
    return "\n".join(lines)


def costs(rows: Sequence[Measured]) -> dict[str, tuple[float, float]]:
    """Split each part's CPU time into what it takes at rest and what an unroll adds.

    Returns, by part, cores at rest and CPU milliseconds per unroll: least squares over the rows.
    """
    rate = np.array([row.unrolls_per_s for row in rows])
    found = {}
    for part in PARTS:
        cpu_ms = rate * np.array([getattr(row, f"{part}_cpu_ms") for row in rows])
        slope, rest = np.polyfit(rate, cpu_ms, 1)
        found[part] = (float(rest) / 1000, float(slope))
    return found


def _extrapolated(rows: Sequence[Measured]) -> list[str]:
    """Return a table of cores that each part would take for ever more workers of this kind."""
    each = rows[0].unrolls_per_s / rows[0].workers
    lines = [
        f"Fitted to the rows above, and carried on to workers of {each:.2f} unrolls/s each:",
        "",
        "| part | cores at rest | CPU ms per unroll | cores for 100 | for 1,000 | for 10,000 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for part, (rest, slope) in costs(rows).items():
        cores = [rest + slope * each * workers / 1000 for workers in (100, 1000, 10_000)]
        cells = " | ".join(f"{value:.2f}" for value in cores)
        lines.append(f"| {PARTS[part]} | {rest:.3f} | {slope:.2f} | {cells} |")
    return [*lines, "", full_event_loop(costs(rows)["event_loop"][1], each)]


def full_event_loop(cpu_ms: float, each: float) -> str:
    """Return in words how many workers' deliveries one thread can take, at `cpu_ms` per unroll.

    `each` is what a worker of the benchmark delivers, in unrolls/s.
    """
    if cpu_ms <= 0.0:
        return "The event loop's cost per unroll is too small to be seen in these rows."
    most = 1000 / cpu_ms
    return (
        f"At c = {cpu_ms:.2f} ms per unroll the event loop is full at 1,000 / c = {most:,.0f} "
        f"unrolls/s: {most / each:,.0f} workers of this kind, "
        f"{most / ATARI_UNROLLS_PER_S:,.0f} that play Atari ({ATARI_UNROLLS_PER_S} unrolls/s each)."
    )


def terminal_table(rows: Sequence[Measured], title: str) -> Table:
    """Return the table for the terminal."""
    table = Table(title=title, caption="learner, driver, Ray, worker: CPU ms per unroll")
    table.add_column("workers")
    for row in rows:
        table.add_column(str(row.workers), justify="right")
    for heading, cells in _cells(rows):
        table.add_row(heading, *cells)
    return table


def _cells(rows: Sequence[Measured]) -> Iterator[tuple[str, list[str]]]:
    for name, (heading, form) in COLUMNS.items():
        values = [getattr(row, name) for row in rows]
        if None not in values:
            yield heading, [format(value, form) for value in values]


def fill(file: Path, table: str) -> None:
    """Put `table` in place of what stands between the marks of `file`."""
    before, after = around_marks(file)
    file.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def around_marks(file: Path) -> tuple[str, str]:
    """Return what stands before and after the marked table; BadInput if there is none."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"markdown: cannot read {file}: {error.strerror}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"markdown: {file} has no table between the marks {BEGIN} and {END}")
    return before, after
