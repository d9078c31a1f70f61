"""Bounded per-task queues of unroll columns, from which every task gets its share of each batch.

A row is one lane of one unroll, kept as a reference into the block it arrived in; nothing is copied
until a batch is put together. Axes: T steps, L lanes of an arriving unroll, B columns of a batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from repertory.ports import State
from repertory.types import EnvironmentFault, EpisodeRecord, TaskSpec, Unroll, Weights
from replay.batch import (
    Row,
    batch_of,
    episodes_from_state,
    episodes_to_state,
    unroll_from_state,
    unroll_to_state,
)
from replay.faults import FaultRecords
from replay.ledger import DeliveryLedger
from replay.queue_counters import TaskCounters, drained_row
from replay.shares import equal_shares, filled_up


class TrajectoryQueues:
    """`UnrollSink` and `BatchSource` of on-policy learners; safe to use from several threads.

    `targets[i]` is the number of rows of task i at which its actors are held back, `bounds[i]` the
    number never exceeded: above it the oldest row is dropped and counted. It rises with workers
    that were not planned for: the `max_outstanding` unrolls that each one heard of may have under
    way fit above the target (0: it stays). Rows acted with weights more than `max_policy_lag`
    versions old are dropped when they come up, and counted.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        *,
        batch_size: int,
        targets: Sequence[int],
        bounds: Sequence[int],
        max_policy_lag: int,
        patience_s: float | None,
        max_outstanding: int = 0,
    ) -> None:
        self._tasks = tuple(tasks)
        self._batch_size = batch_size
        self._targets = tuple(targets)
        self._bounds = list(bounds)
        self._under_way = np.zeros(len(self._tasks), np.int64)
        self._max_outstanding = max_outstanding
        self._heard: set[int] = set()
        self._max_policy_lag = max_policy_lag
        self._patience_s = patience_s
        self._rows: list[deque[Row]] = [deque() for _ in self._tasks]
        self._cursor = 0
        self._version = 0
        self._ledger = DeliveryLedger()
        self._faults = FaultRecords(tasks)
        self._playing = list(range(len(self._tasks)))
        self._short_since: float | None = None
        self._late: set[int] = set()
        self._refused = 0
        self._episodes: list[EpisodeRecord] = []
        self._closed = False
        self._changed = threading.Condition()
        self.counters = [TaskCounters() for _ in self._tasks]

    # -- sink ------------------------------------------------------------------------------------

    def insert(self, unroll: Unroll) -> None:
        """Queue every lane of `unroll` for its task.

        An unroll that was already taken, or that comes from a worker since replaced, is refused and
        counted: a retried delivery must not teach twice.
        """
        with self._changed:
            if not self._ledger.accept(unroll.worker, unroll.incarnation, unroll.sequence):
                self._refused += 1
                return
            self._fit(unroll)
            self._episodes.extend(unroll.episodes)
            if self._faults.note(unroll):
                retired = self._faults.retired
                self._playing = [t for t in range(len(self._tasks)) if t not in retired]
            valid_steps = unroll.valid.sum(axis=0)
            for lane, task in enumerate(unroll.task.tolist()):
                if task in unroll.given_up and not valid_steps[lane]:
                    continue
                counters = self.counters[task]
                rows = self._rows[task]
                rows.append(Row(unroll, lane))
                counters.rows += 1
                # A slow one would be waited for after each of its deliveries.
                if len(rows) >= self._targets[task]:
                    self._late.discard(task)
                counters.steps += int(valid_steps[lane])
                if len(rows) > self._bounds[task]:
                    rows.popleft()
                    counters.dropped_overflow += 1
            self._changed.notify_all()

    def _fit(self, unroll: Unroll) -> None:
        if not self._max_outstanding or unroll.worker in self._heard:
            return
        self._heard.add(unroll.worker)
        lanes = np.bincount(unroll.task, minlength=len(self._tasks))
        self._under_way += self._max_outstanding * lanes
        needed = np.add(self._targets, self._under_way)
        self._bounds = np.maximum(self._bounds, needed).tolist()

    def has_room(self) -> bool:
        """Whether some task has fewer rows than its target."""
        with self._changed:
            return self._below_target()

    def _below_target(self) -> bool:
        return any(len(self._rows[task]) < self._targets[task] for task in self._playing)

    # -- source ----------------------------------------------------------------------------------

    def published(self, weights: Weights) -> None:
        """Note the newest version, against which staleness is measured."""
        with self._changed:
            self._version = weights.version

    def next_batch(self, timeout_s: float | None = None) -> Unroll | None:
        """Return a batch of B columns ordered by task, or None when none is complete in time.

        Every task gives floor(B/N) columns and the remaining ones go round the tasks from batch to
        batch. When a task has been empty for `patience_s` its missing columns come from the fullest
        queues instead, and the gap is counted; later batches take what it has and go without the
        rest at once, until its queue is full again. A task that nobody plays any more has no share.

        Raises:
            EnvironmentFailure: nobody plays any task.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while True:
                if not self._playing:
                    raise self._faults.failure([0], "every task was given up")
                self._drop_stale()
                shares = equal_shares(
                    self._playing, len(self._tasks), self._batch_size, self._cursor
                ).tolist()
                if not self._covers(shares):
                    now = time.monotonic()
                    # Patience outlasts one call: a prefetcher asks again and again, briefly.
                    if self._short_since is None:
                        self._short_since = now
                    short = self._short(shares)
                    if self._patience_s is not None and (
                        now - self._short_since >= self._patience_s or short <= self._late
                    ):
                        shares = self._substitute(shares)
                        if self._covers(shares):
                            self._late |= short
                    if not self._covers(shares):
                        if self._closed or (deadline is not None and now >= deadline):
                            return None
                        self._changed.wait(self._nap(now, self._short_since, deadline))
                        continue
                self._short_since = None
                self._cursor = (self._cursor + self._batch_size) % len(self._tasks)
                picked = [
                    self._take(task) for task, share in enumerate(shares) for _ in range(share)
                ]
                self._changed.notify_all()
                break
        return batch_of(picked)

    def _nap(self, now: float, since: float, deadline: float | None) -> float | None:
        ends = [deadline] if deadline is not None else []
        if self._patience_s is not None:
            patience_end = since + self._patience_s
            ends.append(patience_end if patience_end > now else now + 0.05)
        return max(0.0, min(ends) - now) if ends else None

    def _short(self, shares: Sequence[int]) -> set[int]:
        return {task for task, share in enumerate(shares) if len(self._rows[task]) < share}

    def _covers(self, shares: Sequence[int]) -> bool:
        enough = all(len(r) >= share for r, share in zip(self._rows, shares, strict=True))
        return enough and sum(shares) == self._batch_size

    def _substitute(self, shares: Sequence[int]) -> list[int]:
        held = [len(rows) for rows in self._rows]
        given = filled_up(shares, held)
        if given is None:
            return list(shares)
        for counters, own, wanted in zip(self.counters, held, shares, strict=True):
            counters.short_shares += max(0, wanted - own)
        return given

    def _drop_stale(self) -> None:
        oldest = self._version - self._max_policy_lag
        for counters, rows in zip(self.counters, self._rows, strict=True):
            if any(row.version < oldest for row in rows):
                kept = [row for row in rows if row.version >= oldest]
                counters.dropped_stale += len(rows) - len(kept)
                rows.clear()
                rows.extend(kept)

    def _take(self, task: int) -> Row:
        row = self._rows[task].popleft()
        self.counters[task].note_lag(self._version - row.version)
        return row

    def close(self) -> None:
        """Wake every waiting thread; `next_batch` then returns None once it cannot fill a batch."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- records ---------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Valid agent steps received, over all tasks."""
        return sum(counters.steps for counters in self.counters)

    def guide_counts(self) -> None:
        """Return nothing: what is learned on policy cannot be guided."""

    def drain_episodes(self) -> list[EpisodeRecord]:
        """Return the episodes that finished since the last call."""
        with self._changed:
            episodes, self._episodes = self._episodes, []
            return episodes

    def drain_faults(self) -> list[EnvironmentFault]:
        """Return the environments' failures since the last call."""
        with self._changed:
            return self._faults.drain()

    def metrics(self) -> dict[str, float]:
        """Return fill and drops per task and in all; policy lag since the last call."""
        with self._changed:
            held = [len(rows) for rows in self._rows]
            row = drained_row(self._tasks, self.counters, held, self._targets)
            return row | {"replay/refused": float(self._refused)} | self._faults.metrics()

    def state(self, *, contents: bool) -> State:
        """Return counters and the round's position, and with `contents` the queued rows too."""
        with self._changed:
            state: State = {
                "cursor": self._cursor,
                "version": self._version,
                "refused": self._refused,
                "counters": {
                    task.name: {
                        name: getattr(counters, name) for name in TaskCounters.__dataclass_fields__
                    }
                    for task, counters in zip(self._tasks, self.counters, strict=True)
                },
            }
            if contents:
                unrolls: dict[int, Unroll] = {}
                for rows in self._rows:
                    for row in rows:
                        unrolls.setdefault(id(row.unroll), row.unroll)
                position = {key: index for index, key in enumerate(unrolls)}
                state["unrolls"] = [unroll_to_state(unroll) for unroll in unrolls.values()]
                state["rows"] = [
                    [[position[id(row.unroll)], row.lane] for row in rows] for rows in self._rows
                ]
                state["ledger"] = self._ledger.state()
                state["episodes"] = episodes_to_state(self._episodes)
            return state

    def restore(self, state: State) -> None:
        """Take up `state`; counters are matched by task name, rows only if they were saved."""
        with self._changed:
            self._cursor = int(state["cursor"]) % len(self._tasks)
            self._version = int(state["version"])
            self._refused = int(state["refused"])
            for index, task in enumerate(self._tasks):
                if task.name in state["counters"]:
                    self.counters[index] = TaskCounters(**state["counters"][task.name])
            if "rows" in state:
                unrolls = [unroll_from_state(saved) for saved in state["unrolls"]]
                self._rows = [
                    deque(Row(unrolls[index], lane) for index, lane in rows)
                    for rows in state["rows"]
                ]
                self._ledger.restore(state["ledger"])
                self._episodes = episodes_from_state(state["episodes"])
