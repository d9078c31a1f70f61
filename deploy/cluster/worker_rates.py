"""How fast each worker delivers: which of them is the slowest, and how far it is behind the others.

Steps are counted where they are received, and seconds are of the driver's own clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


class WorkerRates:
    """Agent steps per second of each worker between two rows of metrics."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._newest: dict[int, int] = {}
        self._heard_at = self._row_at = clock()
        self._at_row: dict[int, int] = {}

    def hear(self, steps: Mapping[int, int]) -> None:
        """Take up how many steps each worker has delivered so far."""
        self._newest, self._heard_at = dict(steps), self._clock()

    def metrics(self, playing_since: Mapping[int, float]) -> dict[str, float]:
        """Return the median, the lowest rate and whose that is, since the last call.

        Of workers that play, were heard of by then and have been there since: who came or went in
        between is not slow. Without two of them there is nothing to compare.
        """
        seconds = self._heard_at - self._row_at
        there = {worker for worker, since in playing_since.items() if since <= self._row_at}
        before, self._at_row, self._row_at = self._at_row, self._newest, self._heard_at
        if seconds <= 0.0:
            return {}
        rates = {
            worker: max(0, self._newest[worker] - steps) / seconds
            for worker, steps in before.items()
            if worker in self._newest and worker in there
        }
        if len(rates) < 2:
            return {}
        slowest = min(rates, key=lambda worker: (rates[worker], worker))
        return {
            "health/worker_steps_per_s_median": median(rates.values()),
            "health/worker_steps_per_s_slowest": rates[slowest],
            "health/slowest_worker": float(slowest),
        }
