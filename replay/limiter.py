"""Keeps the ratio of replayed to inserted steps, however many actors there are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

from repertory.ports import State


class SampleLimiter:
    """Says whether the next batch is due and whether actors are too far ahead of the learner.

    Counting begins with the run, or anew with `begin_anew`. Learning starts once every task has
    inserted `learning_starts` steps since then; from there on, batch u (from 0) is due as soon as
    (u + 1) * batch_size <= samples_per_insert * (inserted - learning_starts * M).
    """

    def __init__(
        self,
        task_count: int,
        *,
        batch_size: int,
        learning_starts: int,
        samples_per_insert: float,
        slack: float,
    ) -> None:
        self._batch_size = batch_size
        self._learning_starts = learning_starts
        self._samples_per_insert = samples_per_insert
        # Below one update, actors and learner could each wait for the other.
        self._slack = max(slack, 1.0)
        self.inserted: Int64[np.ndarray, " M"] = np.zeros(task_count, np.int64)
        self.taken = 0
        self.retired: Bool[np.ndarray, " M"] = np.zeros(task_count, np.bool_)
        """Tasks that will insert no more, and that nothing waits for."""

    def begin_anew(self) -> None:
        """Count from nothing: every task owes `learning_starts` steps again, and nobody a batch."""
        self.inserted[:] = 0
        self.taken = 0

    @property
    def started(self) -> bool:
        """Whether every task that still can has inserted its first steps."""
        return bool((self.retired | (self.inserted >= self._learning_starts)).all())

    @property
    def learned_from(self) -> int:
        """Inserted steps that updates are due for: those beyond the first `learning_starts * M`."""
        return int(self.inserted.sum()) - self._learning_starts * len(self.inserted)

    @property
    def ratio(self) -> float | None:
        """Steps replayed per step inserted so far; None before learning starts."""
        if not self.started or self.learned_from <= 0:
            return None
        return self.taken * self._batch_size / self.learned_from

    def due(self) -> bool:
        """Whether the next batch may be taken."""
        credit = self._samples_per_insert * self.learned_from
        return self.started and (self.taken + 1) * self._batch_size <= credit

    def has_room(self) -> bool:
        """Whether actors may go on: they are at most `slack` batches ahead (at least one)."""
        ahead = self._samples_per_insert * self.learned_from - self.taken * self._batch_size
        return not self.started or ahead <= self._slack * self._batch_size

    def state(self) -> State:
        """Return what was counted, and the settings it was counted under."""
        return {"inserted": self.inserted.copy(), "taken": self.taken, "rule": self._rule()}

    def restore(self, state: State) -> None:
        """Take up a state; under other settings counting begins anew instead.

        A count made under another ratio would be a debt or a burst of updates under this one.
        """
        if state["rule"] != self._rule() or len(state["inserted"]) != len(self.inserted):
            self.begin_anew()
            return
        self.inserted[:] = state["inserted"]
        self.taken = int(state["taken"])

    def _rule(self) -> dict[str, float]:
        return {
            "batch_size": float(self._batch_size),
            "learning_starts": float(self._learning_starts),
            "samples_per_insert": float(self._samples_per_insert),
        }
