"""Counts updates that were skipped because something was not finite, and ends hopeless runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repertory.errors import NumericalFailure


class SkippedUpdates:
    """How many updates were skipped, in all and in a row; `limit` in a row are too many."""

    def __init__(self, limit: int, what: str = "loss or gradients") -> None:
        self.count = 0
        self._in_a_row = 0
        self._limit, self._what = limit, what

    def note(self, *, finite: bool) -> None:
        """Count one update.

        Raises:
            NumericalFailure: this one and those before it make too many in a row.
        """
        if finite:
            self._in_a_row = 0
            return
        self.count += 1
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            raise NumericalFailure(
                f"{self._what} were not finite in {self._limit} updates in a row; "
                "lower optimiser.learning_rate, or look at the rewards"
            )

    def state(self) -> dict[str, int]:
        """Return the counts."""
        return {"nonfinite": self.count, "nonfinite_in_a_row": self._in_a_row}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up counts from a state that holds those of `state()` among others."""
        self.count = int(state["nonfinite"])
        self._in_a_row = int(state["nonfinite_in_a_row"])
