"""The parts of a chaos run: they keep books, and what breaks within a process is broken here.

By its incarnation a worker's environments raise, hang, or answer NaN; every `POISONED_EVERY`-th
update learns from rewards that are NaN.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chaos_books import FOLDER, Book
from benchmarks.chaos_run import EPISODE, HOW, POISONED_EVERY, TASKS
from deploy.cluster import learners, workers
from deploy.cluster.learner_host import LearnerHost
from deploy.cluster.replay_host import ReplayHost
from deploy.cluster.worker_host import WorkerHost
from repertory.config import CountingConfig, RunConfig
from repertory.ports import Experience, State
from repertory.types import Unroll


class _NotedInsert:
    """The `insert` of a door, before which a worker writes down what it delivers."""

    def __init__(self, insert: Any, book: Book) -> None:
        self._insert = insert
        self._book = book

    def remote(self, unroll: Unroll) -> Any:
        """Note the delivery, then send it."""
        self._book.note("acted", **_named(unroll), steps=steps_of(unroll))
        return self._insert.remote(unroll)


class _NotedDoor:
    """The door of a replay's process as a worker sees it."""

    def __init__(self, door: Any, book: Book) -> None:
        self.insert = _NotedInsert(door.insert, book)
        self.room = door.room
        self.weights = door.weights


class ChaosWorkerHost(WorkerHost):
    """A worker that writes down what it acts; its environments fail in one of several ways."""

    def __init__(
        self,
        config_json: str,
        learner: Any,
        worker: int,
        incarnation: int,
        tasks: Sequence[str] = (),
    ) -> None:
        config = RunConfig.model_validate_json(config_json)
        how = {"fail_how": HOW[incarnation % len(HOW)]}
        environment = config.environment.model_copy(update=how)
        config = config.model_copy(update={"environment": environment})
        door = _NotedDoor(learner, Book("worker"))
        super().__init__(config.model_dump_json(), door, worker, incarnation, tasks)


class ChaosReplayHost(ReplayHost):
    """A replay that writes down what it takes, saves and takes up again."""

    def __init__(self, config_json: str, rank: int = 0) -> None:
        super().__init__(config_json, rank)
        keep_book(self._experience, Book("replay"))


class ChaosLearnerHost(LearnerHost):
    """A learner some of whose batches are poisoned."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        update = self._learner.update
        environment = self._config.environment
        broken = isinstance(environment, CountingConfig) and bool(environment.fail_task)

        def poisoned(batch: Any, progress: float) -> None:
            # By the number of the update, which a checkpoint brings back with the count of those
            # that were skipped: the two agree at any time, however often the run goes back.
            if broken and (self._loop.updates + 1) % POISONED_EVERY == 0:
                batch = replace(batch, reward=np.full_like(batch.reward, np.nan))
            update(batch, progress)

        self._learner.update = poisoned  # type: ignore[method-assign]


def keep_book(experience: Experience, book: Book) -> None:
    """Let `experience` write down the deliveries that it takes, what it saves and what it takes up.

    The steps are those by which its own counters rise.
    """
    insert, state, restore = experience.insert, experience.state, experience.restore
    # Deliveries come on the event loop, checkpoints on another thread: lines in their order.
    in_order = threading.Lock()

    def counted() -> State:
        return state(contents=False)

    def noting_insert(unroll: Unroll) -> None:
        with in_order:
            before = counted()
            insert(unroll)
            after = counted()
            risen = [b - a for a, b in zip(_steps(before), _steps(after), strict=True)]
            what = "taken" if after["refused"] == before["refused"] else "refused"
            at = time.monotonic()
            book.note(what, **_named(unroll), steps=risen, torn=torn(unroll), at=at)

    def noting_state(*, contents: bool) -> State:
        with in_order:
            found = state(contents=contents)
            book.note("saved", steps=_steps(found))
            return found

    def noting_restore(saved: State) -> None:
        with in_order:
            restore(saved)
            book.note("restored", steps=_steps(counted()))

    experience.insert = noting_insert  # type: ignore[method-assign]
    experience.state = noting_state  # type: ignore[method-assign]
    experience.restore = noting_restore  # type: ignore[method-assign]


def _steps(state: State) -> list[int]:
    return [int(own["steps"]) for own in state["records"].values()]


def steps_in(state: State) -> list[int]:
    """Return the steps by task that a run's checkpoint has."""
    return _steps(state["experience"])


def _named(unroll: Unroll) -> dict[str, int]:
    return {
        "worker": unroll.worker,
        "incarnation": unroll.incarnation,
        "sequence": unroll.sequence,
    }


def steps_of(unroll: Unroll) -> list[int]:
    """Return the valid steps of an unroll, by task."""
    task = np.broadcast_to(unroll.task, unroll.valid.shape)[unroll.valid]
    return [int(count) for count in np.bincount(task, minlength=TASKS)]


def torn(unroll: Unroll) -> bool:
    """Whether an unroll of counting environments has anything but whole steps and whole episodes.

    Each valid step leads from (task, episode, step) to the next step of the same; an episode of
    task i has i more steps than one of task 0.
    """
    before, after = unroll.observation[:-1], unroll.observation[1:]
    whole = (before[..., :2] == after[..., :2]).all(axis=-1)
    whole &= (before[..., 0] == unroll.task) & (after[..., 2] == before[..., 2] + 1)
    whole &= unroll.reward == before[..., 2]
    ended = all(
        one.length == EPISODE + one.task and one.raw_return == one.length * (one.length - 1) // 2
        for one in unroll.episodes
    )
    return not ended or bool((unroll.valid & ~whole).any())


@contextmanager
def parts_of_chaos(folder: Path) -> Iterator[None]:
    """Let runs on Ray within have these parts, with their books in `folder`."""
    before = learners.LearnerHost, learners.ReplayHost, workers.WorkerHost
    os.environ[FOLDER] = str(folder)
    learners.LearnerHost, learners.ReplayHost = ChaosLearnerHost, ChaosReplayHost  # type: ignore[misc]
    workers.WorkerHost = ChaosWorkerHost  # type: ignore[misc]
    try:
        yield
    finally:
        del os.environ[FOLDER]
        learners.LearnerHost, learners.ReplayHost, workers.WorkerHost = before  # type: ignore[misc]
