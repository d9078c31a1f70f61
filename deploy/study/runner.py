"""Runs a study's jobs as processes of their own, several at once, and notes how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy.signals import StopRequest
from deploy.study.ledger import Ledger
from deploy.study.outcome import is_scored
from deploy.study.plan import Job

LOOK_S = 0.1
STOP_S = 120.0
"""How long a run may take for its last checkpoint when it is asked to stop."""
# With a checkpoint, or before it had begun.
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
_START = "from deploy.cli import main; main()"


@dataclass(frozen=True, slots=True)
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    since: float
    evaluating: bool


class Runner:
    """Starts what is ready, as many at once as allowed, until nothing is left that can be."""

    def __init__(self, ledger: Ledger, at_once: int, tell: Callable[[str], None]) -> None:
        self._ledger, self._at_once, self._tell = ledger, at_once, tell
        self._logs = ledger.directory / "logs"
        self._children: list[_Child] = []

    def run(self, stop: StopRequest) -> None:
        """Run all jobs that can be run; return early, children stopped, when asked to."""
        self._logs.mkdir(exist_ok=True)
        try:
            while not stop:
                for job in self._ledger.ready()[: self._at_once - len(self._children)]:
                    self._start(job)
                if not self._children:
                    return
                time.sleep(LOOK_S)
                self._collect()
        finally:
            self._stop_children()

    def _start(self, job: Job) -> None:
        progress = self._ledger.progress[job.name]
        begun = (self._ledger.directory / job.run / "config.json").is_file()
        trained = progress.status == "trained"
        words = job.command(self._ledger.directory, begun=begun, trained=trained)
        output = self.log_of(job).open("ab")
        # A session of its own: Ctrl-C at the terminal reaches this process alone, which passes it
        # on once; a run that hears it twice ends without a checkpoint.
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Jobs share the cores by being many.
            env={"OMP_NUM_THREADS": "1", **os.environ},
        )
        evaluating = trained or job.kind == "zero-shot"
        self._children.append(_Child(job, process, output, time.monotonic(), evaluating))
        self._ledger.set(job, status="running", attempts=progress.attempts + 1, error="")
        self._tell(f"{self._count()} {job.name} started")

    def log_of(self, job: Job) -> Path:
        """Return the file that a job's output is appended to."""
        return self._logs / f"{job.name}.txt"

    def _collect(self) -> None:
        """Note the jobs that have ended."""
        for child in [one for one in self._children if one.process.poll() is not None]:
            self._children.remove(child)
            child.output.close()
            self._note(child)

    def _note(self, child: _Child) -> None:
        job, code = child.job, child.process.returncode
        spent = time.monotonic() - child.since
        seconds = self._ledger.progress[job.name].seconds + spent
        if code in _STOPPED:
            self._ledger.set(job, status="waiting", seconds=seconds)
            self._tell(f"{self._count()} {job.name} stopped; it will go on from here")
        elif code != 0:
            said = last_line(self.log_of(job)) or f"ended with exit code {code}"
            error = f"killed by signal {-code}" if code < 0 else said
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
            child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for child in self._children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._collect()

    def _count(self) -> str:
        return f"[{len(self._ledger.of('done'))}/{len(self._ledger.jobs)}]"


def last_line(log: Path) -> str:
    """Return the last line that is not empty of a file, without the program's name."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("repertory: ") if said else ""
