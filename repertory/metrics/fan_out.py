"""One sink that writes to several, of which none can stop the others or the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from repertory.ports import MetricSink

log = logging.getLogger(__name__)


class FanOut:
    """Writes every row to every sink, in their order; a sink's first failure is logged."""

    def __init__(self, sinks: Sequence[MetricSink]) -> None:
        self.sinks = tuple(sinks)
        self.failures = [0] * len(self.sinks)

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Write one row."""
        for index, sink in enumerate(self.sinks):
            try:
                sink.write(row)
            except Exception as error:  # a sink may fail in any way; metrics never end a run
                self._count(index, error)

    def close(self) -> None:
        """Close every sink."""
        for index, sink in enumerate(self.sinks):
            try:
                sink.close()
            except Exception as error:  # as above, and the others still have rows to flush
                self._count(index, error)

    def _count(self, index: int, error: Exception) -> None:
        self.failures[index] += 1
        if self.failures[index] == 1:
            log.error(
                "%s failed and is still tried, the others go on: %r",
                type(self.sinks[index]).__name__,
                error,
            )
