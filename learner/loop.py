"""Drives one learner: take a batch, update, publish; and prefetches the next batch meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from repertory.errors import NumericalFailure
from repertory.ports import Batch, BatchSource, Learner
from repertory.types import Weights


class LearnerLoop:
    """One update after another; knows neither where batches come from nor where weights go."""

    def __init__(
        self,
        learner: Learner,
        publish: Callable[[Weights], None],
        *,
        publish_every: int,
        progress: Callable[[], float],
    ) -> None:
        self._learner = learner
        self._publish = publish
        self._publish_every = publish_every
        self._progress = progress
        self.updates = 0

    def update(self, batch: Batch) -> None:
        """Learn from one batch and publish when it is time."""
        try:
            self._learner.update(batch, min(1.0, self._progress()))
        except NumericalFailure as failure:
            failure.batch = batch
            raise
        self.updates += 1
        if self.updates % self._publish_every == 0:
            self.publish()

    def publish(self) -> None:
        """Publish the weights as they are."""
        self._publish(self._learner.weights())


class Prefetcher:
    """Puts the next batch together on a thread of its own while the learner is busy with this one.

    At most one finished batch waits; `stop` ends the thread. An error in the source is raised where
    the batch is asked for.
    """

    def __init__(self, source: BatchSource, poll_s: float = 0.2) -> None:
        self._source = source
        self._poll_s = poll_s
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def next_batch(self, timeout_s: float) -> Batch | None:
        """Return the batch that is ready, or None when none came in time."""
        try:
            item = self._ready.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """End the thread; a batch that waits is lost with it."""
        self._stopping.set()
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                batch = self._source.next_batch(self._poll_s)
                if batch is not None:
                    self._hand_over(batch)
        except Exception as error:  # handed to the learner's thread, which raises it
            self._hand_over(error)

    def _hand_over(self, item: Batch | BaseException) -> None:
        while not self._stopping.is_set():
            try:
                self._ready.put(item, timeout=self._poll_s)
                return
            except queue.Full:
                continue
