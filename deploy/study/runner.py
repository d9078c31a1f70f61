"""Runs a study's jobs, several at once, and notes how they end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.signals import StopRequest
from deploy.study.ledger import Ledger
from deploy.study.outcome import is_scored
from deploy.study.places import Ended, Places, Process
from deploy.study.plan import Job
from repertory import checkpoint
from repertory.run_directory import CONFIG, RunDirectory

LOOK_S = 0.1
STOP_S = 120.0
"""How long a run may take for its last checkpoint when it is asked to stop."""
MOST_LOSSES = 3
"""So often a job whose node or process was lost is begun again in one call."""


@dataclass(frozen=True, slots=True)
class _Child:
    job: Job
    process: Process
    since: float
    evaluating: bool


class Runner:
    """Starts what is ready, as many at once as there is room for, until nothing is left to do."""

    def __init__(self, ledger: Ledger, places: Places, tell: Callable[[str], None]) -> None:
        self._ledger, self._places, self._tell = ledger, places, tell
        self._logs = ledger.directory / "logs"
        self._children: list[_Child] = []
        self._losses: Counter[str] = Counter()

    def run(self, stop: StopRequest) -> None:
        """Run all jobs that can be run; return early, children stopped, when asked to."""
        self._logs.mkdir(exist_ok=True)
        try:
            while not stop:
                free = max(0, self._places.room() - len(self._children))
                for job in self._ledger.ready()[:free]:
                    self._start(job)
                if not self._children:
                    return
                time.sleep(LOOK_S)
                self._collect()
        finally:
            self._stop_children()

    def _start(self, job: Job) -> None:
        progress = self._ledger.progress[job.name]
        begun = (self._ledger.directory / job.name / CONFIG).is_file()
        trained = progress.status == "trained"
        if begun:
            self._find_parent(job)
        words = job.command(self._ledger.directory, begun=begun, trained=trained)
        process = self._places.start(words, self.log_of(job))
        self._children.append(_Child(job, process, time.monotonic(), trained))
        self._ledger.set(job, status="running", attempts=progress.attempts + 1, error="")
        self._tell(f"{self._count()} {job.name} started")

    def _find_parent(self, job: Job) -> None:
        """Let a run that has not begun to learn find its parent where the study is now.

        Only such a run reads its parent, whose path it has from when it was made: the study may
        have been moved since, or be called by another path.
        """
        run = RunDirectory.open(self._ledger.directory / job.name)
        if job.kind == "pretrain" or checkpoint.list_checkpoints(run.checkpoints):
            return
        config, protocol = run.read_config()
        parent = str(self._ledger.directory / job.needs[0])
        if config.initial.parent != parent:
            initial = config.initial.model_copy(update={"parent": parent})
            run.write_config(config.model_copy(update={"initial": initial}), protocol)

    def log_of(self, job: Job) -> Path:
        """Return the file that a job's output is appended to."""
        return self._logs / f"{job.name}.txt"

    def _collect(self) -> None:
        """Note the jobs that have ended."""
        for child in list(self._children):
            ended = child.process.ended()
            if ended is not None:
                self._children.remove(child)
                self._note(child, ended)

    def _note(self, child: _Child, ended: Ended) -> None:
        job, code = child.job, ended.code
        spent = time.monotonic() - child.since
        seconds = self._ledger.progress[job.name].seconds + spent
        if ended.stopped:
            self._ledger.set(job, status="waiting", seconds=seconds)
            self._tell(f"{self._count()} {job.name} stopped; it will go on from here")
        elif ended.lost and self._losses[job.name] < MOST_LOSSES:
            self._losses[job.name] += 1
            self._ledger.set(job, status="waiting", seconds=seconds)
            self._tell(f"{self._count()} {job.name} lost: {ended.said}; it will go on elsewhere")
        elif ended.lost or code != 0:
            said = last_line(self.log_of(job)) or f"ended with exit code {code}"
            error = ended.said or (f"killed by signal {-code}" if code < 0 else said)
            self._ledger.set(job, status="failed", seconds=seconds, error=error)
            self._tell(f"{self._count()} {job.name} failed: {error}")
        elif is_scored(self._ledger.directory, job):
            self._ledger.set(job, status="done", seconds=seconds)
            self._tell(f"{self._count()} {job.name} done in {spent:.0f} s")
        elif child.evaluating:
            self._ledger.set(job, status="failed", seconds=seconds, error="it left no scores")
        else:
            # It had been cut off between its last checkpoint and its evaluation.
            self._ledger.set(job, status="trained", seconds=seconds)

    def _stop_children(self) -> None:
        """Ask every child to stop with a checkpoint, wait for it, and end what does not."""
        for child in self._children:
            child.process.stop()
        deadline = time.monotonic() + STOP_S
        while self._children and time.monotonic() < deadline:
            self._collect()
            time.sleep(LOOK_S)
        for child in self._children:
            child.process.kill()
        self._collect()

    def _count(self) -> str:
        return f"[{len(self._ledger.of('done'))}/{len(self._ledger.jobs)}]"


def last_line(log: Path) -> str:
    """Return the last line that is not empty of a file, without the program's name."""
    if not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("repertory: ") if said else ""
