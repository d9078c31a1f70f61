"""`repertory study RECIPE`: pre-training with zero-shot evaluation, fine-tuning and baselines as a
list of jobs that can be stopped and gone on with.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands import Page
from deploy.overrides import options, scan
from deploy.schema import settings_of
from repertory.config import Positive, RunConfig, Settings
from repertory.errors import BadInput
from repertory.recipes.studies import STUDIES, Study, get_study

if TYPE_CHECKING:
    from deploy.study.ledger import Ledger
    from deploy.study.needs import Needs
    from deploy.study.places import Places

USAGE = "repertory study RECIPE [--dir D] [options] [settings of every run]"


class Options(Settings):
    """Which study, where, and how much of the machine it may take."""

    recipe: str
    """Name of the study."""
    dir: Path | None = None
    """The study's directory; without it runs/<study>. Every run lies in it."""
    seeds: Positive = 3
    """Each run is repeated with so many seeds; more can be added later."""
    jobs: Positive | None = None
    """Jobs at once; without it, as many as cores, memory and GPUs have room for."""
    address: str = ""
    """Ray cluster whose nodes run the jobs; all of them must see the study's directory."""
    dry_run: bool = False
    """List the jobs and how far they have come; start nothing and write nothing."""


def page() -> Page:
    """Return the help."""
    listed = "; ".join(f"{study.name}: {study.summary}" for study in STUDIES.values())
    return Page(
        USAGE,
        "Run a study, or what is left of it: done jobs are skipped, interrupted ones go on, failed "
        f"ones are tried again. {listed}. Any setting of a run may follow (repertory train "
        "--help); it is kept with the study.",
        (Options,),
    )


def run(tokens: Sequence[str]) -> int:
    """Run what is left, print the table, and return 0 if every job is done."""
    chosen, given = _parse(tokens)
    study = get_study(chosen.recipe)
    from deploy.address import probe
    from deploy.study.ledger import LOCK, Ledger, read_saved
    from deploy.study.needs import needs_of
    from deploy.study.plan import canonical, jobs_of
    from repertory.run_directory import RunDirectory
    from repertory.run_lock import RunLock

    directory = chosen.dir or Path("runs") / study.name
    if chosen.address:
        # Nodes have other working directories.
        directory = directory.expanduser().absolute()
    # Called again without settings, a study goes on with those it has.
    settings = canonical(given) or read_saved(directory, study.name).settings
    ledger = Ledger(directory, study.name, jobs_of(study, chosen.seeds, settings), settings)
    needs, warnings = needs_of(study, settings, chosen.address)
    for warning in warnings:
        print(f"repertory: warning: {warning}", file=sys.stderr)
    if chosen.dry_run:
        _list(ledger)
        return 0
    if chosen.address:
        probe(chosen.address)
    RunDirectory.check_new(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with RunLock(directory / LOCK):
        # Another process may have gone on with it while this one read.
        ledger = Ledger(directory, study.name, ledger.jobs, settings)
        ledger.write()
        with _places(chosen, needs, directory) as places:
            return _run(ledger, study, places, _again(ledger, study, chosen.address))


def _parse(tokens: Sequence[str]) -> tuple[Options, tuple[str, ...]]:
    """Return the command's own options, and the flags of every run."""
    own = {setting.path: setting for setting in settings_of(Options)}
    theirs = [setting for setting in settings_of(RunConfig) if setting.path not in own]
    texts, words = scan(tokens, [*own.values(), *theirs])
    if len(words) > 1 or (words and "recipe" in texts):
        raise BadInput(f"unexpected '{words[-1]}'; usage: {USAGE}")
    if words:
        texts["recipe"] = (words[0],)
    if "recipe" not in texts:
        raise BadInput(f"RECIPE is missing; usage: {USAGE}")
    chosen = options(Options, {path: text for path, text in texts.items() if path in own})
    given: list[str] = []
    for path, values in texts.items():
        if path not in own:
            given += [f"--{path}", *values] if values else [f"--{path}="]
    return chosen, tuple(given)


def _again(ledger: Ledger, study: Study, address: str) -> str:
    """Return the command that goes on with a study; its settings are with it."""
    words = ["repertory", "study", study.name, "--dir", str(ledger.directory)]
    return shlex.join(words + (["--address", address] if address else []))


@contextlib.contextmanager
def _places(chosen: Options, needs: Needs, directory: Path) -> Iterator[Places]:
    """Have room for jobs while entered: on this machine, or on a cluster's nodes."""
    from deploy.study.local_places import LocalPlaces
    from deploy.study.needs import at_once, visible_gpus

    if chosen.address:
        from deploy.study.cluster_places import cluster_places

        with cluster_places(chosen.address, needs, chosen.jobs, directory) as places:
            yield places
        return
    gpus = visible_gpus(needs)
    room, reason = at_once(needs, len(gpus))
    yield LocalPlaces(chosen.jobs, gpus) if chosen.jobs else LocalPlaces(room, gpus, reason)


def _run(ledger: Ledger, study: Study, places: Places, again: str) -> int:
    from deploy.signals import StopRequest
    from deploy.study.runner import Runner

    if ledger.ready():
        print(places, flush=True)
    runner = Runner(ledger, places, lambda line: print(line, flush=True))
    with StopRequest() as stop:
        runner.run(stop)
    where = ledger.directory
    if stop:
        print(f"stopped: {again}")
        return stop.exit_code
    from deploy.study.outcome import outcome_table
    from deploy.table_console import table_console

    table_console().print(outcome_table(ledger, study))
    print(
        f"{study.policy} returns by the number of variants pre-trained on, mean over seeds ± half "
        f"of the 95 % interval (seeds); runs, study.json and logs/ are in {where}"
    )
    left = [job for job in ledger.jobs if ledger.progress[job.name].status != "done"]
    for job in ledger.of("failed"):
        error = ledger.progress[job.name].error
        print(f"repertory: {job.name} failed: {error} ({runner.log_of(job)})", file=sys.stderr)
    if ledger.of("done"):
        print(_report(where))
    if left:
        print(f"{len(left)} jobs are left: {again}")
        return 1
    return 0


def _report(where: Path) -> str:
    """Return the command for the study's page, with the runs from scratch as the scores' 1."""
    place = shlex.quote(str(where))
    return f"curves, scores and maps: repertory report {place} --reference {place}/scratch-*"


def _list(ledger: Ledger) -> None:
    for job in ledger.jobs:
        words = job.command(ledger.directory, begun=False, trained=False)
        print(f"{ledger.progress[job.name].status:8}{job.name:40}repertory {' '.join(words)}")
    done = len(ledger.of("done"))
    print(f"{len(ledger.jobs)} jobs, {done} done, in {ledger.directory}")
