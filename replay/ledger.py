"""Which deliveries were taken: a retried one must not teach twice, nor one of a replaced worker."""

from __future__ import annotations

from repertory.ports import State

WINDOW = 64
"""Deliveries of one worker may overtake each other; far fewer than this are under way at once."""


class DeliveryLedger:
    """Per worker: the incarnation that counts, and the sequence numbers seen of it lately."""

    def __init__(self) -> None:
        self._incarnation: dict[int, int] = {}
        self._seen: dict[int, set[int]] = {}

    def accept(self, worker: int, incarnation: int, sequence: int) -> bool:
        """Note a delivery and return whether it is new.

        Older incarnations, numbers seen before, and numbers `WINDOW` or more behind the highest one
        are refused.
        """
        current = self._incarnation.get(worker, -1)
        if incarnation < current:
            return False
        if incarnation > current:
            self._incarnation[worker] = incarnation
            self._seen[worker] = set()
        seen = self._seen[worker]
        oldest = max(seen, default=sequence) - WINDOW
        if sequence in seen or sequence <= oldest:
            return False
        seen.add(sequence)
        oldest = max(seen) - WINDOW
        self._seen[worker] = {number for number in seen if number > oldest}
        return True

    def state(self) -> State:
        """Return what was taken, for a checkpoint that goes on with the same workers."""
        return {
            "workers": [
                [worker, self._incarnation[worker], sorted(seen)]
                for worker, seen in sorted(self._seen.items())
            ]
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""
        self._incarnation = {worker: incarnation for worker, incarnation, _ in state["workers"]}
        self._seen = {worker: set(seen) for worker, _, seen in state["workers"]}
