"""Replay with a ring of windows per task, from which every task gets the same share of each batch.

Axes: T steps, L lanes of an arriving unroll; M tasks, N rows of a batch, W windows of K steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from repertory.ports import State
from repertory.types import (
    EnvironmentFault,
    EpisodeRecord,
    ReplayBatch,
    TaskSpec,
    Unroll,
    Weights,
    Windows,
)
from replay.batch import episodes_from_state, episodes_to_state
from replay.faults import FaultRecords
from replay.ledger import DeliveryLedger
from replay.limiter import SampleLimiter
from replay.replay_batch import batch_of_steps
from replay.replay_fit import check_run, check_saved, renumbered
from replay.replay_records import ReplayRecords
from replay.shares import equal_shares
from replay.window_assembler import WindowAssembler
from replay.window_ring import WindowRings


class TaskReplay:
    """`Experience` of off-policy learners; safe to use from several threads.

    `capacity` steps are kept, over all tasks in equal parts, as windows of at most `window` steps.
    Batches have N = `batch_size` rows, and each `windows_every`-th one (0: none) also has
    `window_batch` windows, in equal shares of the tasks that the guide may act for (He et al. 2024,
    section 4). `learning_starts` steps of every task precede the first batch; after it
    `samples_per_insert` steps are replayed per step inserted, and actors are held back when they
    are `slack` batches ahead of that.

    A state without contents resumes with an empty replay: every task must insert its
    `learning_starts` steps again before the next batch, and the ratio is counted from there.

    Raises:
        BadInput: the numbers do not divide, or the tasks are not what replay holds.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        *,
        capacity: int,
        batch_size: int,
        window: int,
        windows_every: int,
        window_batch: int,
        learning_starts: int,
        samples_per_insert: float,
        slack: float,
        generator: np.random.Generator,
        poison: bool = False,
    ) -> None:
        """Make an empty replay; `poison` fills what is not yet written with NaN, for tests."""
        self._tasks = tuple(tasks)
        count = len(self._tasks)
        check_run(self._tasks, capacity=capacity, batch_size=batch_size, window=window)
        self._share = batch_size // count
        self._window = window
        self._windows_every = windows_every
        self._window_batch = window_batch
        self._generator = generator
        self._rings = WindowRings(
            count,
            slots=capacity // (count * window),
            window=window,
            observation_size=self._tasks[0].observation.shape[0],
            action_size=self._tasks[0].action.size,
            poison=poison,
        )
        self._assembler = WindowAssembler(window)
        self._limiter = SampleLimiter(
            count,
            batch_size=batch_size,
            learning_starts=learning_starts,
            samples_per_insert=samples_per_insert,
            slack=slack,
        )
        self._records = ReplayRecords(self._tasks)
        self._ledger = DeliveryLedger()
        self._faults = FaultRecords(tasks)
        self._refused = 0
        self._batches = 0
        self._window_cursor = 0
        self._version = 0
        self._guided: Bool[np.ndarray, " M"] | None = None
        self._episodes: list[EpisodeRecord] = []
        self._closed = False
        self._changed = threading.Condition()

    @property
    def bytes_per_row(self) -> float:
        """Bytes that a step costs where all windows are full."""
        return self._rings.bytes_per_row

    # -- sink ------------------------------------------------------------------------------------

    def insert(self, unroll: Unroll) -> None:
        """Take the steps of `unroll`, of which those in windows that closed can be sampled.

        An unroll that was already taken, or that comes from a worker since replaced, is refused and
        counted: a retried delivery must not teach twice.
        """
        with self._changed:
            if not self._ledger.accept(unroll.worker, unroll.incarnation, unroll.sequence):
                self._refused += 1
                return
            self._episodes.extend(unroll.episodes)
            self._limiter.inserted += self._records.note_arrival(unroll)
            for closed in self._assembler.add(unroll):
                self._rings.put(closed, self._records.steps)
            if self._faults.note(unroll):
                self._limiter.retired[:] = False
                self._limiter.retired[list(self._faults.retired)] = True
            self._changed.notify_all()

    def has_room(self) -> bool:
        """Whether actors may go on: before learning starts, and while not too far ahead."""
        with self._changed:
            return not self._rings.rows.all() or self._limiter.has_room()

    # -- source ----------------------------------------------------------------------------------

    def published(self, weights: Weights) -> None:
        """Note the newest version, and which tasks the guide may act for from now on."""
        with self._changed:
            self._version = weights.version
            self._guided = None if weights.guided is None else weights.guided.copy()

    def next_batch(self, timeout_s: float | None = None) -> ReplayBatch | None:
        """Return N rows ordered by task, N/M of each, or None when no batch was due in time.

        A task that nobody plays any more keeps its share, of what it has left behind.

        Raises:
            EnvironmentFailure: such a task has left nothing, or nobody plays any task.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not (self._limiter.due() and self._rings.rows.all()):
                self._faults.check_replayed(self._rings.rows)
                left = None if deadline is None else deadline - time.monotonic()
                if self._closed or (left is not None and left <= 0.0):
                    return None
                self._changed.wait(left)
            batch = self._sampled()
            self._changed.notify_all()
            return batch

    def _sampled(self) -> ReplayBatch:
        rings = self._rings
        rows = rings.sample_rows(self._share, self._generator)
        slot = rows.slot
        by_task = (len(self._tasks), self._share)
        lag = self._version - rings.policy_version[slot]
        age = np.repeat(self._records.steps, self._share) - rings.inserted_at[slot]
        self._records.note_sampled(lag.reshape(by_task), age.reshape(by_task))
        self._batches += 1
        self._limiter.taken += 1
        due = self._windows_every > 0 and self._batches % self._windows_every == 0
        windows = self._sampled_windows() if due else None
        return batch_of_steps(rings, rows, self._records.success_rate(), windows)

    def _sampled_windows(self) -> Windows:
        """Draw windows in equal shares of the guided tasks; what is left over goes round them."""
        count = len(self._tasks)
        guided = np.arange(count)
        if self._guided is not None and self._guided.any():
            guided = np.flatnonzero(self._guided)
        shares = equal_shares(guided.tolist(), count, self._window_batch, self._window_cursor)
        extra = self._window_batch % len(guided)
        self._window_cursor = (self._window_cursor + extra) % len(guided)
        return self._rings.sample_windows(shares, self._generator)

    def close(self) -> None:
        """Wake every waiting thread; `next_batch` then returns None once no batch is due."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- records ---------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Valid agent steps received, over all tasks."""
        with self._changed:
            return int(self._records.steps.sum())

    def drain_episodes(self) -> list[EpisodeRecord]:
        """Return the episodes that finished since the last call."""
        with self._changed:
            episodes, self._episodes = self._episodes, []
            return episodes

    def drain_faults(self) -> list[EnvironmentFault]:
        """Return the environments' failures since the last call."""
        with self._changed:
            return self._faults.drain()

    def guide_counts(self) -> Int64[np.ndarray, "M C"]:
        """Return the valid steps of task i in which j acted, since the last call."""
        with self._changed:
            return self._records.guide_counts()

    def metrics(self) -> dict[str, float]:
        """Return fill per task and in all; lag, age and guidance since the last call.

        `replay_fill` is the share of a task's ring in use, `replay_age` the mean number of the
        task's steps that came after the sampled ones, `guided` the share of its steps in which
        another task's policy acted.
        """
        with self._changed:
            row = self._rings.metrics([task.name for task in self._tasks])
            row |= {
                "replay/rows_open": float(self._assembler.open_steps),
                "replay/stream_breaks": float(self._assembler.breaks),
                "replay/refused": float(self._refused),
            }
            if self._limiter.ratio is not None:
                row["replay/samples_per_insert"] = self._limiter.ratio
            return row | self._records.drained() | self._faults.metrics()

    # -- checkpoint ------------------------------------------------------------------------------

    def state(self, *, contents: bool) -> State:
        """Return counters and positions, and with `contents` every window, open ones included."""
        with self._changed:
            state: State = {
                "tasks": [task.name for task in self._tasks],
                "batches": self._batches,
                "window_cursor": self._window_cursor,
                "version": self._version,
                "guided": None if self._guided is None else self._guided.copy(),
                "refused": self._refused,
                "generator": self._generator.bit_generator.state,
                "ledger": self._ledger.state(),
                "records": self._records.state(),
            }
            if contents:
                state["window"] = self._window
                state["limiter"] = self._limiter.state()
                state["assembler"] = self._assembler.state()
                state["rings"] = {
                    task.name: self._rings.task_state(task.index) for task in self._tasks
                }
                state["episodes"] = episodes_to_state(self._episodes)
            return state

    def restore(self, state: State) -> None:
        """Take up `state`, tasks matched by name.

        Without contents, or with other tasks than saved, the ratio is counted anew.

        Raises:
            BadInput: the saved windows are of other steps or sizes.
        """
        with self._changed:
            saved = list(state["tasks"])
            names = [task.name for task in self._tasks]
            if "rings" in state:
                check_saved(state, self._tasks[0], self._window)
            self._batches = int(state["batches"])
            self._window_cursor = int(state["window_cursor"])
            self._version = int(state["version"])
            self._refused = int(state["refused"])
            self._generator.bit_generator.state = state["generator"]
            self._ledger.restore(state["ledger"])
            self._records.restore(state["records"])
            self._rings.clear()
            self._assembler.clear()
            self._limiter.begin_anew()
            self._guided, self._episodes = None, []
            if names == saved and state["guided"] is not None:
                self._guided = np.array(state["guided"], np.bool_)
            if "rings" in state:
                for task in self._tasks:
                    if task.name in saved:
                        ring = state["rings"][task.name]
                        guide = renumbered(ring["guide"], saved, names, task.index)
                        self._rings.restore_task(task.index, ring, guide)
                if names == saved:
                    self._limiter.restore(state["limiter"])
                    self._assembler.restore(state["assembler"])
                    self._episodes = episodes_from_state(state["episodes"])
            self._changed.notify_all()
