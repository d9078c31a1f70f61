"""What a worker's process logs: every line begins with the worker, its node and its tasks, and
warnings are kept for the driver, who has the run's own log.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray

from deploy.cluster.versions import versions_here
from repertory.redaction import RedactingFormatter

MOST_NAMES = 3
"""A worker can have as many tasks as lanes: beyond these the line says how many more there are."""
MOST_KEPT = 100
MOST_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker's process is, and where Ray keeps what it prints."""

    node: str
    """Address of the node."""
    node_id: str
    process_id: int
    actor_id: str
    folder: str
    """The log folder of Ray's session on that node."""
    files: tuple[str, ...]
    """Names in that folder: what the process wrote to stdout and to stderr."""
    versions: dict[str, str]
    """Of our messages and of packages, on that node."""


def place_of_this_process() -> Place:
    """Return where this Ray actor is."""
    context = ray.get_runtime_context()
    folder = Path(context.get_temp_dir(), context.get_session_name(), "logs")
    # Some processes are started for a job and have its number in the name, others have not.
    names = folder.glob(f"worker-{context.get_worker_id()}-*")
    return Place(
        node=str(ray.util.get_node_ip_address()),
        node_id=context.get_node_id(),
        process_id=os.getpid(),
        actor_id=context.get_actor_id() or "",
        folder=str(folder),
        files=tuple(sorted(path.name for path in names)),
        versions=versions_here(),
    )


def mark(worker: int, node: str, tasks: Sequence[str]) -> str:
    """Return what every line of a worker's log begins with."""
    more = [f"{len(tasks) - MOST_NAMES} more"] if len(tasks) > MOST_NAMES else []
    return f"worker {worker} on {node} [{', '.join([*tasks[:MOST_NAMES], *more])}]"


class MarkedFormatter(RedactingFormatter):
    """Begins every line with the worker's mark, those of a traceback too: so `grep` finds them."""

    def __init__(self, marked: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._marked = marked

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        return "\n".join(f"{self._marked} {line}" for line in super().format(record).splitlines())


class KeptForDriver(logging.Handler):
    """Warnings, errors and what environments say, until the driver asks for them.

    The oldest are dropped and counted when it does not ask; a node's own file has them all.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._kept: deque[str] = deque(maxlen=MOST_KEPT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's text, of which the end says most."""
        if record.levelno < logging.WARNING and not record.name.startswith("envs."):
            return
        self._dropped += len(self._kept) == MOST_KEPT
        text = self.format(record)
        if len(text) > MOST_CHARACTERS:
            text = text[-MOST_CHARACTERS:].partition("\n")[2] or text[:MOST_CHARACTERS]
        self._kept.append(text)

    def take(self) -> tuple[list[str], int]:
        """Return what was kept since the last call, and how many before it were dropped."""
        self.acquire()
        try:
            taken = list(self._kept), self._dropped
            self._kept.clear()
            self._dropped = 0
        finally:
            self.release()
        return taken


def begin(worker: int, tasks: Sequence[str]) -> KeptForDriver:
    """Let everything that this process logs or warns of be marked from now on."""
    formatter = MarkedFormatter(mark(worker, str(ray.util.get_node_ip_address()), tasks))
    kept = KeptForDriver()
    root = logging.getLogger()
    for handler in (logging.StreamHandler(sys.stderr), kept):
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    return kept
