"""A study's jobs as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.study.places import START, Ended, Process


class LocalPlaces:
    """So many processes at once. Each has a GPU of its own while there are enough of them."""

    def __init__(self, count: int, gpus: Sequence[str] = (), reason: str = "") -> None:
        self._count, self._reason = count, reason
        self._users: dict[str, list[_LocalProcess]] = {gpu: [] for gpu in gpus}

    def __str__(self) -> str:
        """Say how many jobs run at once, and why no more."""
        jobs = f"{self._count} job{'s' if self._count > 1 else ''} at once"
        return f"{jobs}: {self._reason}" if self._reason else jobs

    def room(self) -> int:
        """Return how many jobs may run at once."""
        return self._count

    def start(self, words: Sequence[str], log: Path) -> Process:
        """Start `repertory` with these words; what it says is appended to `log`."""
        # Jobs share the cores by being many.
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        gpu = min(self._users, key=self._load, default=None)
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        process = _LocalProcess(words, log, environment)
        if gpu is not None:
            self._users[gpu].append(process)
        return process

    def _load(self, gpu: str) -> int:
        return sum(process.ended() is None for process in self._users[gpu])


class _LocalProcess:
    def __init__(self, words: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        with log.open("ab") as output:
            # A session of its own: Ctrl-C at the terminal reaches this process alone, which passes
            # it on once; a run that hears it twice ends without a checkpoint.
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    def ended(self) -> Ended | None:
        code = self._process.poll()
        return None if code is None else Ended(code)

    def stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
