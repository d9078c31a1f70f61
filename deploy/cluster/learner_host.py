"""The actor that owns queues and learner: unrolls come in, weights go out, updates never wait."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import ray

from deploy import build
from learner.loop import LearnerLoop, Prefetcher
from repertory.config import RunConfig
from repertory.errors import RepertoryError
from repertory.ports import State
from repertory.types import EpisodeRecord, Unroll, Weights

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
class Heartbeat:
    """What the driver learns every second, without waiting for the update that is under way."""

    updates: int
    env_steps: int
    silent_s: dict[int, float]
    """Seconds since each worker was last heard of; 0 for one that is being held back."""
    failure: BaseException | None


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics and episodes since the last report."""

    updates: int
    env_steps: int
    metrics: dict[str, float]
    episodes: list[EpisodeRecord]


class LearnerHost:
    """Async Ray actor: its methods run on the event loop, updates on a thread of their own."""

    def __init__(self, config_json: str) -> None:
        import torch

        self._config = RunConfig.model_validate_json(config_json)
        torch.set_num_threads(self._config.learner.threads)
        tasks = build.tasks_of(self._config)
        self._queues = build.trajectory_queues(self._config, tasks)
        self._learner = build.learner(self._config, tasks)
        self._loop = LearnerLoop(
            self._learner,
            self._publish,
            publish_every=self._config.learner.publish_every,
            progress=lambda: self._queues.steps / self._config.total_steps,
        )
        # Workers get the oldest of these: the newest, unless a delay is asked for.
        self._published: deque[tuple[int, list[Any]]] = deque(
            maxlen=self._config.actors.version_delay + 1
        )
        self._between_updates = threading.Lock()
        self._started = asyncio.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._heard: dict[int, float] = {}
        self._held: dict[int, int] = {}
        self._waiting = 0
        self._wait_s = 0.0
        self._busy_s = 0.0

    # -- life ------------------------------------------------------------------------------------

    async def start(self, state: State | None) -> None:
        """Take up a checkpoint if there is one, publish the weights, and begin to learn."""
        if state is not None:
            self._learner.restore(state["learner"])
            self._loop.updates = int(state["counters"]["updates"])
            self._queues.restore({k: v for k, v in state["queues"].items() if k != "rows"})
        self._loop.publish()
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._thread.start()
        self._started.set()

    def _run(self) -> None:
        import torch

        torch.set_num_threads(self._config.learner.threads)
        gc.collect()
        gc.freeze()
        prefetcher = Prefetcher(self._queues)
        try:
            while not self._stopping.is_set() and self._queues.steps < self._config.total_steps:
                before = time.perf_counter()
                batch = prefetcher.next_batch(0.2)
                got = time.perf_counter()
                self._wait_s += got - before
                if batch is not None:
                    with self._between_updates:
                        self._loop.update(batch)
                    self._busy_s += time.perf_counter() - got
        except BaseException as error:
            self._failure = (
                error
                if isinstance(error, RepertoryError)
                else RuntimeError(f"{type(error).__name__}: {error}")
            )
        finally:
            prefetcher.stop()

    def _publish(self, weights: Weights) -> None:
        self._published.append((weights.version, [ray.put(weights.vector)]))
        self._queues.set_version(weights.version)

    async def stop(self) -> None:
        """End updates after the one that is under way."""
        self._stopping.set()
        self._queues.close()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    # -- workers ---------------------------------------------------------------------------------

    async def insert(self, unroll: Unroll) -> Receipt:
        """Queue an unroll; the answer waits (not for ever) until another one is wanted."""
        # A resumed run's counters are restored at the start; nothing may be counted before.
        await self._started.wait()
        self._heard[unroll.worker] = time.monotonic()
        self._queues.insert(unroll)
        return await self.room(unroll.worker)

    async def room(self, worker: int) -> Receipt:
        """Wait until another unroll is wanted, at most `HOLD_S`."""
        end = time.monotonic() + HOLD_S
        self._held[worker] = self._held.get(worker, 0) + 1
        self._waiting += 1
        try:
            while not (room := self._queues.has_room()) and time.monotonic() < end:
                # The more wait, the more rarely each looks: the cost of waiting stays the same.
                await asyncio.sleep(0.004 * max(1.0, self._waiting / 8))
        finally:
            self._waiting -= 1
            self._held[worker] -= 1
            self._heard[worker] = time.monotonic()
        return Receipt(self._published[0][0], room)

    async def weights(self, newer_than: int) -> tuple[int, list[Any]] | None:
        """Return (version, [reference to the vector]) if there are newer weights."""
        await self._started.wait()
        return self._published[0] if self._published[0][0] > newer_than else None

    # -- driver ----------------------------------------------------------------------------------

    async def heartbeat(self) -> Heartbeat:
        """Return counters, silences and the failure that ended updates, if one did."""
        now = time.monotonic()
        return Heartbeat(
            updates=self._loop.updates,
            env_steps=self._queues.steps,
            silent_s={
                worker: 0.0 if self._held.get(worker) else now - heard
                for worker, heard in self._heard.items()
            },
            failure=self._failure,
        )

    async def report(self) -> Report:
        """Return metrics; waits for the update under way."""
        return await asyncio.to_thread(self._report)

    def _report(self) -> Report:
        with self._between_updates:
            metrics = self._learner.metrics()
        metrics |= self._queues.metrics()
        total = self._wait_s + self._busy_s
        if total > 0:
            metrics["learner/waiting"] = self._wait_s / total
        self._wait_s = self._busy_s = 0.0
        return Report(
            self._loop.updates, self._queues.steps, metrics, self._queues.drain_episodes()
        )

    async def state(self) -> State:
        """Return the state for a checkpoint, taken between two updates."""
        return await asyncio.to_thread(self._state)

    def _state(self) -> State:
        with self._between_updates:
            weights = self._learner.weights()
            return {
                "runtime": "cluster",
                "learner": self._learner.state(),
                "weights": {"version": weights.version, "vector": weights.vector},
                "queues": self._queues.state(contents=False),
                "counters": {"env_steps": self._queues.steps, "updates": self._loop.updates},
            }

    async def acting_weights(self) -> tuple[int, list[Any]]:
        """Return the newest published weights, for evaluation."""
        return self._published[-1]
