"""Brings what workers warn of, wherever they are, into the run's own log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ray

from deploy.cluster.faults import ANSWER_S
from deploy.worker_places import WorkerPlace, last_lines

log = logging.getLogger(__name__)

LAST_WORDS = 20
"""Lines of a dead worker's own log that the run's log keeps."""


class WorkerLines:
    """Asks workers for what they kept; one that does not answer costs nobody any time."""

    def __init__(self) -> None:
        self._answers: dict[int, Any] = {}

    def ask(self, handles: Mapping[int, Any]) -> None:
        """Ask these workers, but for those whose last answer is awaited."""
        for worker, handle in handles.items():
            if worker not in self._answers:
                self._answers[worker] = handle.said.remote()

    def forget(self, worker: int) -> None:
        """Await nothing more of a worker that is gone."""
        self._answers.pop(worker, None)

    def take(self, wait_s: float) -> None:
        """Log what has come, or comes within `wait_s`.

        At the level of information: what hundreds of workers warn of would flood a terminal.
        """
        if not self._answers:
            return
        asked = {answer: worker for worker, answer in self._answers.items()}
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=wait_s)
        for answer in ready:
            worker = asked[answer]
            del self._answers[worker]
            try:
                lines, dropped = ray.get(answer, timeout=ANSWER_S)
            except ray.exceptions.RayError:
                # It died; whoever watches over it says why.
                continue
            if dropped:
                log.info("worker %d: %d warnings before these are in its log", worker, dropped)
            for line in lines:
                log.info("%s", line)


def log_last_words(place: WorkerPlace) -> None:
    """Log the end of a dead worker's own log, where that is on this machine, or else its place."""
    for path in place.paths:
        try:
            lines = last_lines(path, LAST_WORDS)
        except OSError:
            log.info("the log of worker %d was %s on %s", place.worker, path, place.node)
            continue
        if lines:
            log.info("worker %d had said, in %s:\n%s", place.worker, path, "\n".join(lines))
