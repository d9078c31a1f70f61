"""Workers that no node has a core for yet: Ray starts them when one is free, and until then they
are neither silent nor alive.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import ray

from deploy.cluster.faults import ANSWER_S
from deploy.cluster.versions import VersionCheck
from deploy.worker_places import WorkerBook, WorkerPlace

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""A process takes seconds to start on a node that has room; only after these is it told of."""


class Placements:
    """Which workers' processes are there, as far as the driver has heard.

    Of `wanted` workers those that wait are told of; none are where there is no such number.
    """

    def __init__(self, run: RunDirectory, wanted: int | None) -> None:
        self._run = run
        self._wanted = wanted
        self._answers: dict[int, Any] = {}
        self._asked_for: dict[int, tuple[int, Sequence[str]]] = {}
        self._since: dict[int, float] = {}
        self._told = 0
        self._book = WorkerBook(run.path)
        self._versions = VersionCheck()
        self.known: dict[int, WorkerPlace] = {}
        """Where workers are, or were, while no later process of theirs has come."""

    def expect(self, worker: int, incarnation: int, tasks: Sequence[str], handle: Any) -> None:
        """Look out for the process of a worker that was asked for just now."""
        self._answers[worker] = handle.place.remote()
        self._asked_for[worker] = incarnation, tasks
        self._since[worker] = time.monotonic()
        self.known.pop(worker, None)

    def forget(self, worker: int) -> None:
        """Look out no more for a worker that was given up."""
        self._answers.pop(worker, None)
        self._since.pop(worker, None)
        self.known.pop(worker, None)

    def arrived(self) -> list[int]:
        """Return the workers whose processes came since the last call; tell of those that wait.

        Raises:
            ClusterFailure: one of them has another version of our messages.
        """
        answers = list(self._answers.values())
        # A process that died in its first moments has come, too: its end is seen elsewhere.
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=0) if answers else ([], [])
        found = [worker for worker, answer in self._answers.items() if answer in ready]
        for worker in found:
            with contextlib.suppress(ray.exceptions.RayError):
                self._enter(worker, ray.get(self._answers[worker], timeout=ANSWER_S))
            del self._answers[worker], self._since[worker]
        self._tell()
        return found

    def waiting_s(self, worker: int) -> float | None:
        """Return how long a worker has waited for its process; None if that is there."""
        since = self._since.get(worker)
        return None if since is None else time.monotonic() - since

    @property
    def waiting(self) -> int:
        """How many workers' processes are not there."""
        return len(self._answers)

    def _enter(self, worker: int, place: Any) -> None:
        incarnation, tasks = self._asked_for[worker]
        # First of all, for an earlier version's place would lack what is read of it.
        self._versions.hear(f"worker {worker}", place.node, getattr(place, "versions", {}))
        found = asdict(place)
        del found["versions"]
        self.known[worker] = WorkerPlace(
            worker=worker, incarnation=incarnation, tasks=tuple(tasks), **found
        )
        self._book.enter(self.known[worker])
        log.info("worker %d is on %s", worker, place.node)

    def close(self) -> None:
        """Close the file of places."""
        self._book.close()

    def _tell(self) -> None:
        if self._wanted is None:
            return
        now = time.monotonic()
        waiting = sum(now - since > PATIENCE_S for since in self._since.values())
        if waiting == self._told:
            return
        self._run.event("workers_waiting", waiting=waiting, wanted=self._wanted)
        if waiting > self._told:
            log.warning(
                "%d of %d workers wait for a free core: they start when nodes join",
                waiting,
                self._wanted,
            )
        self._told = waiting
