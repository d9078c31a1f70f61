"""`repertory study RECIPE`: pre-training, zero-shot evaluation, fine-tuning and baselines as a list
of jobs that can be stopped and gone on with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands import Page, parse
from repertory.config import Positive, Settings
from repertory.recipes.studies import STUDIES, Study, get_study

if TYPE_CHECKING:
    from deploy.study.ledger import Ledger

USAGE = "repertory study RECIPE [--dir D] [options]"


class Options(Settings):
    """Which study, where, and how much of the machine it may take."""

    recipe: str
    """Name of the study."""
    dir: Path | None = None
    """The study's directory; without it runs/<study>. Every run lies in it."""
    seeds: Positive = 3
    """Each run is repeated with so many seeds; more can be added later."""
    jobs: Positive | None = None
    """Jobs at once; without it, one per core."""
    dry_run: bool = False
    """List the jobs and how far they have come; start nothing and write nothing."""


def page() -> Page:
    """Return the help."""
    listed = "; ".join(f"{study.name}: {study.summary}" for study in STUDIES.values())
    return Page(
        USAGE,
        "Run a study, or what is left of it: done jobs are skipped, interrupted ones go on, failed "
        f"ones are tried again. {listed}.",
        (Options,),
    )


def run(tokens: Sequence[str]) -> int:
    """Run what is left, print the table, and return 0 if every job is done."""
    chosen = parse(Options, tokens, USAGE, ["recipe"])
    study = get_study(chosen.recipe)
    from deploy.study.ledger import LOCK, Ledger
    from deploy.study.plan import jobs_of
    from repertory.run_directory import RunDirectory
    from repertory.run_lock import RunLock

    directory = chosen.dir or Path("runs") / study.name
    ledger = Ledger(directory, study.name, jobs_of(study, chosen.seeds))
    if chosen.dry_run:
        _list(ledger)
        return 0
    RunDirectory.check_new(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with RunLock(directory / LOCK):
        # Another process may have gone on with it while this one read.
        ledger = Ledger(directory, study.name, ledger.jobs)
        ledger.write()
        return _run(ledger, study, chosen.jobs or len(os.sched_getaffinity(0)))


def _run(ledger: Ledger, study: Study, at_once: int) -> int:
    from deploy.signals import StopRequest
    from deploy.study.runner import Runner

    runner = Runner(ledger, at_once, lambda line: print(line, flush=True))
    with StopRequest() as stop:
        runner.run(stop)
    where = ledger.directory
    if stop:
        print(f"stopped: repertory study {study.name} --dir {where}")
        return stop.exit_code
    from rich.console import Console

    from deploy.study.outcome import outcome_table

    Console().print(outcome_table(ledger, study))
    print(
        f"{study.policy} returns, mean over seeds ± half of the 95 % interval (seeds); runs, "
        f"study.json and logs/ are in {where}"
    )
    left = [job for job in ledger.jobs if ledger.progress[job.name].status != "done"]
    for job in ledger.of("failed"):
        error = ledger.progress[job.name].error
        print(f"repertory: {job.name} failed: {error} ({runner.log_of(job)})", file=sys.stderr)
    if left:
        print(f"{len(left)} jobs are left: repertory study {study.name} --dir {where}")
        return 1
    return 0


def _list(ledger: Ledger) -> None:
    for job in ledger.jobs:
        words = job.command(ledger.directory, begun=False, trained=False)
        print(f"{ledger.progress[job.name].status:8}{job.name:40}repertory {' '.join(words)}")
    done = len(ledger.of("done"))
    print(f"{len(ledger.jobs)} jobs, {done} done, in {ledger.directory}")
