"""The actor that holds the run's experience where that has a process of its own, and its client."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import ray
from jaxtyping import Int64

from deploy import build
from deploy.cluster.faults import ANSWER_S, STATE_S, PartLost, in_a_line
from deploy.cluster.worker_door import Published, Receipt, WorkerDoor
from deploy.several_learners import share_of
from repertory.config import RunConfig
from repertory.ports import Batch, State
from repertory.types import EnvironmentFault, EpisodeRecord, Unroll, Weights


class ReplayLost(PartLost):
    """The replay's process died or answers no more."""


class ReplayHost:
    """Async Ray actor: workers deliver here, the learner asks for batches."""

    def __init__(self, config_json: str, rank: int = 0) -> None:
        """Hold what the learner number `rank` replays."""
        self._config = RunConfig.model_validate_json(config_json)
        share = share_of(self._config, rank)
        self._experience = build.experience(share, build.tasks_of(self._config))
        self._door = WorkerDoor(self._experience, version_delay=self._config.actors.version_delay)

    # -- workers ---------------------------------------------------------------------------------

    async def insert(self, unroll: Unroll) -> Receipt:
        """Take an unroll."""
        return await self._door.insert(unroll)

    async def room(self, worker: int) -> Receipt:
        """Wait until another unroll is wanted."""
        return await self._door.room(worker)

    async def weights(self, newer_than: int) -> Published | None:
        """Return newer weights."""
        return await self._door.weights(newer_than)

    # -- learner ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Let workers in."""
        self._door.open()

    async def publish(self, published: Published) -> None:
        """Make a version the newest one."""
        self._door.publish(published)

    async def next_batch(self, timeout_s: float) -> tuple[Batch | None, int]:
        """Return a batch, if one comes in time, and the steps received so far."""
        batch = await asyncio.to_thread(self._experience.next_batch, timeout_s)
        return batch, self._experience.steps

    async def report(
        self,
    ) -> tuple[
        dict[str, float],
        list[EpisodeRecord],
        np.ndarray | None,
        list[EnvironmentFault],
        int,
    ]:
        """Return metrics; episodes, guides and faults since the last call; steps received."""
        held = self._experience
        episodes, guides = held.drain_episodes(), held.guide_counts()
        return held.metrics(), episodes, guides, held.drain_faults(), held.steps

    async def silences(self) -> tuple[dict[int, float], dict[int, int], int]:
        """Return each worker's silence in seconds, its steps so far, and the steps received."""
        return self._door.silences(), self._door.delivered(), self._experience.steps

    async def state(self, contents: bool) -> State:
        """Return the experience's state."""
        return await asyncio.to_thread(lambda: self._experience.state(contents=contents))

    async def restore(self, state: State) -> None:
        """Take up a state."""
        await asyncio.to_thread(self._experience.restore, state)

    async def close(self) -> None:
        """Wake every waiting thread."""
        self._experience.close()


class RemoteExperience:
    """`Experience` in the learner's process, of a `ReplayHost`; every call has a deadline."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._steps = 0
        self._delivered: dict[int, int] = {}
        self._episodes: list[EpisodeRecord] = []
        self._faults: list[EnvironmentFault] = []
        self._guides: np.ndarray | None = None
        self._closed = threading.Event()

    @property
    def steps(self) -> int:
        """Steps received, as last heard."""
        return self._steps

    def insert(self, unroll: Unroll) -> None:
        """Hand an unroll on (workers deliver to the host itself)."""
        self._answer(self._host.insert.remote(unroll), "a delivery")

    def has_room(self) -> bool:
        """Whether another unroll is wanted."""
        receipt: Receipt = self._answer(self._host.room.remote(-1), "a request for room")
        return receipt.room

    def next_batch(self, timeout_s: float | None = None) -> Batch | None:
        """Return a batch; without a limit, wait until one comes or `close` is called."""
        while not self._closed.is_set():
            wait_s = 1.0 if timeout_s is None else timeout_s
            batch, self._steps = self._answer(
                self._host.next_batch.remote(wait_s), "a request for a batch"
            )
            if batch is not None or timeout_s is not None:
                found: Batch | None = batch
                return found
        return None

    def published(self, weights: Weights) -> None:
        """Do nothing: the host hears of publications through its door."""

    def publish(self, published: Published) -> None:
        """Make a version the newest one that workers get there."""
        self._answer(self._host.publish.remote(published), "a publication")

    def open(self) -> None:
        """Let workers in there."""
        self._answer(self._host.open.remote(), "to let workers in")

    def drain_episodes(self) -> list[EpisodeRecord]:
        """Return the episodes that came with the last `metrics`."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def drain_faults(self) -> list[EnvironmentFault]:
        """Return the failures of environments that came with the last `metrics`."""
        faults, self._faults = self._faults, []
        return faults

    def metrics(self) -> dict[str, float]:
        """Return the host's metrics."""
        metrics, episodes, guides, faults, self._steps = self._answer(
            self._host.report.remote(), "its metrics"
        )
        self._episodes += episodes
        self._faults += faults
        self._guides = guides
        found: dict[str, float] = metrics
        return found

    def guide_counts(self) -> Int64[np.ndarray, "M C"] | None:
        """Return the guides that came with the last `metrics`."""
        guides, self._guides = self._guides, None
        return guides

    def silences(self) -> dict[int, float]:
        """Return each worker's silence in seconds."""
        silences, self._delivered, self._steps = self._answer(
            self._host.silences.remote(), "a sign of life"
        )
        found: dict[int, float] = silences
        return found

    def delivered(self) -> dict[int, int]:
        """Return each worker's steps, as they came with the last `silences`."""
        return self._delivered

    def state(self, *, contents: bool) -> State:
        """Return the host's state."""
        state: State = self._answer(self._host.state.remote(contents), "its state", STATE_S)
        return state

    def restore(self, state: State) -> None:
        """Make the host take up a state."""
        self._answer(self._host.restore.remote(state), "to restore", STATE_S)

    def close(self) -> None:
        """Wake every waiting thread, here and there."""
        self._closed.set()
        self._answer(self._host.close.remote(), "to close")

    def _answer(self, reference: Any, what: str, deadline_s: float = ANSWER_S) -> Any:
        try:
            return ray.get(reference, timeout=deadline_s)
        except ray.exceptions.GetTimeoutError as error:
            raise ReplayLost(
                f"the replay did not answer {what} within {deadline_s:.0f} s"
            ) from error
        except ray.exceptions.RayTaskError:
            # It lives, and has raised something of its own.
            raise
        except ray.exceptions.RayError as error:
            raise ReplayLost(
                f"the replay's process died before it answered {what} ({in_a_line(error)})"
            ) from error
