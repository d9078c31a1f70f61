"""The door that rollout workers knock at: unrolls in, receipts and weights out, back-pressure."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from repertory.ports import Experience
from repertory.types import Unroll, Weights

IN_TURN_S = 1.0
"""A delivery that overtook another of its worker waits so long for it: Ray may hand an actor the
smaller of two arguments first. What comes later than that is lost for good.
"""
HOLD_S = 5.0
"""A worker is held back for so long at most within one call; then it asks again."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a delivery."""

    version: int
    """The newest published version: the worker pulls it if its own is older."""
    room: bool
    """Whether another unroll is wanted; otherwise the worker asks `room` before it plays on."""


@dataclass(frozen=True, slots=True)
class Published:
    """One publication: its vector lies in the object store, behind a reference in a list."""

    weights: Weights
    """Without its vector and masks."""
    vector: list[Any]
    masks: list[Any] = field(default_factory=list)
    """A reference to the weights' masks, the same one for as long as these do not change."""


class WorkerDoor:
    """Lives in the async actor that holds the run's experience; knows no learner."""

    def __init__(self, experience: Experience, *, version_delay: int) -> None:
        self._experience = experience
        # Workers get the oldest of these: the newest, unless a delay is asked for.
        self._published: deque[Published] = deque(maxlen=version_delay + 1)
        self._open = asyncio.Event()
        self._heard: dict[int, float] = {}
        self._held: dict[int, int] = {}
        self._waiting = 0
        # By worker: its incarnation, and the newest of its deliveries that was taken.
        self._taken: dict[int, tuple[int, int]] = {}
        self._delivered: dict[int, int] = {}

    def open(self) -> None:
        """Let workers in: what a resumed run restores is restored by now, and weights are there."""
        self._open.set()

    def publish(self, published: Published) -> None:
        """Make a version the newest one."""
        self._published.append(published)
        self._experience.published(published.weights)

    @property
    def newest(self) -> Published:
        """The newest publication, whatever workers may have."""
        return self._published[-1]

    async def insert(self, unroll: Unroll) -> Receipt:
        """Take an unroll; the answer waits (not for ever) until another one is wanted."""
        # A resumed run's counters are restored at the start; nothing may be counted before.
        await self._open.wait()
        self._heard[unroll.worker] = time.monotonic()
        await self._in_turn(unroll)
        worker, steps = unroll.worker, int(unroll.valid.sum())
        self._delivered[worker] = self._delivered.get(worker, 0) + steps
        self._experience.insert(unroll)
        return await self.room(unroll.worker)

    async def _in_turn(self, unroll: Unroll) -> None:
        """Let the deliveries before this one pass: replay joins a lane's steps in their order."""
        end = time.monotonic() + IN_TURN_S
        while unroll.sequence > self._next(unroll) and time.monotonic() < end:
            await asyncio.sleep(0.002)
        incarnation, sequence = self._taken.get(unroll.worker, (-1, 0))
        if (unroll.incarnation, unroll.sequence) > (incarnation, sequence):
            self._taken[unroll.worker] = (unroll.incarnation, unroll.sequence)

    def _next(self, unroll: Unroll) -> int:
        incarnation, sequence = self._taken.get(unroll.worker, (-1, 0))
        return sequence + 1 if incarnation == unroll.incarnation else 1

    async def room(self, worker: int) -> Receipt:
        """Wait until another unroll is wanted, at most `HOLD_S`."""
        end = time.monotonic() + HOLD_S
        self._held[worker] = self._held.get(worker, 0) + 1
        self._waiting += 1
        try:
            while not (room := self._experience.has_room()) and time.monotonic() < end:
                # The more wait, the more rarely each looks: the cost of waiting stays the same.
                await asyncio.sleep(0.004 * max(1.0, self._waiting / 8))
        finally:
            self._waiting -= 1
            self._held[worker] -= 1
            self._heard[worker] = time.monotonic()
        return Receipt(self._published[0].weights.version, room)

    async def weights(self, newer_than: int) -> Published | None:
        """Return what workers may have, if it is newer."""
        await self._open.wait()
        offered = self._published[0]
        return offered if offered.weights.version > newer_than else None

    def delivered(self) -> dict[int, int]:
        """Return the agent steps that came from each worker, and from whom it replaced, so far."""
        return dict(self._delivered)

    def silences(self) -> dict[int, float]:
        """Return the seconds since each worker was heard of; 0 for one that is held back."""
        now = time.monotonic()
        # Of a copy: this may run beside the event loop, where a worker knocks for the first time.
        return {
            worker: 0.0 if self._held.get(worker) else now - heard
            for worker, heard in list(self._heard.items())
        }
