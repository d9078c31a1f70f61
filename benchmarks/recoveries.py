"""How long a chaos run took to recover from kills of workers, as its replay's books show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.chaos_books import Books

BACK_S = {"worker killed": 15.0, "all workers killed": 30.0}
"""So long a replacement may take until it delivers: of one worker while another plays on, and of
all at once.
"""
PAUSE_S = 5.0
"""So long nobody may deliver while a worker that nothing happened to plays on."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What followed one kill that was over before the next fault."""

    fault: str
    back_s: float
    """Until the first delivery of a replacement."""
    pause_s: float
    """The longest time without a delivery until then."""

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.fault}: back after {self.back_s:.1f} s, a pause of {self.pause_s:.1f} s"

    def wrong(self, slower: float) -> list[str]:
        """Return what took too long on a machine that takes `slower` times as long as it should."""
        found = []
        if self.back_s > slower * BACK_S[self.fault]:
            found.append(f"{self}, which is more than {slower * BACK_S[self.fault]:.0f} s")
        if self.fault == "worker killed" and self.pause_s > slower * PAUSE_S:
            found.append(f"{self}, which is more than {slower * PAUSE_S:.0f} s")
        return found


def recoveries(
    books: Books, strikes: Sequence[tuple[float, str]], hangs: Callable[[int], bool]
) -> list[Recovery]:
    """Return those of kills of workers; `strikes` are all faults, in the clock of the books.

    A kill that another fault followed too soon is left out: what took so long cannot be told. So is
    one while a worker plays, or comes back, whose incarnation is one that `hangs`.
    """
    taken = sorted(
        (entry["at"], (entry["worker"], entry["incarnation"]))
        for replay in books.replays
        for entry in replay
        if entry["what"] == "taken"
    )
    found = []
    nexts = [*(at for at, _ in strikes[1:]), float("inf")]
    for (at, fault), following in zip(strikes, nexts, strict=False):
        if fault not in BACK_S:
            continue
        known = {player for when, player in taken if when <= at}
        after = [(when, player) for when, player in taken if at < when < following]
        back, new = next(((when, p) for when, p in after if p not in known), (0.0, (0, 0)))
        playing = dict(sorted(known))
        if not back or any(hangs(incarnation) for incarnation in (*playing.values(), new[1])):
            continue
        times = [at, *(when for when, _ in after if when <= back)]
        pause = max(b - a for a, b in pairwise(times))
        found.append(Recovery(fault, back - at, pause))
    return found
