"""Where a study's jobs run: as processes of this machine, or on the nodes of a cluster."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

START = "from deploy.cli import main; main()"
"""What a job's process runs with the job's words after it."""
# With a checkpoint, or before it had begun.
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


class Ended(NamedTuple):
    """How a job's process ended."""

    code: int
    """Its exit code, the negative number of the signal that killed it."""
    said: str = ""
    """What went wrong, where its log does not say."""
    lost: bool = False
    """Whether its process or node went away with it; such a job is begun again."""

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop, and did."""
        return not self.lost and self.code in _STOPPED


@runtime_checkable
class Process(Protocol):
    """A job that was started."""

    def ended(self) -> Ended | None:
        """Return how it ended; None while it runs."""

    def stop(self) -> None:
        """Ask it to stop with a checkpoint; nothing is awaited."""

    def kill(self) -> None:
        """End it."""


@runtime_checkable
class Places(Protocol):
    """Room for jobs."""

    def room(self) -> int:
        """Return how many jobs may run at once, as things are now."""

    def start(self, words: Sequence[str], log: Path) -> Process:
        """Start `repertory` with these words; what it says is appended to `log`."""
