"""The actor that learns: batches come in, weights go out; it holds the experience too, unless that
has a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from jaxtyping import Int64

from deploy import build
from deploy.cluster.faults import ANSWER_S
from deploy.cluster.replay_host import RemoteExperience
from deploy.cluster.worker_door import Published, Receipt, WorkerDoor
from deploy.finetuning.transplant import InitialWeights
from learner.loop import LearnerLoop, Prefetcher
from repertory.config import RunConfig
from repertory.errors import RepertoryError
from repertory.metrics.gradient_maps import CosineSums
from repertory.ports import Experience, State
from repertory.types import EnvironmentFault, EpisodeRecord, Unroll, Weights, weights_state


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
    """Metrics, episodes, guides and cosines between gradients since the last report."""

    updates: int
    env_steps: int
    metrics: dict[str, float]
    episodes: list[EpisodeRecord]
    guides: Int64[np.ndarray, "M C"] | None
    faults: list[EnvironmentFault]
    cosines: list[CosineSums]


class LearnerHost:
    """Async Ray actor: its methods run on the event loop, updates on a thread of their own."""

    def __init__(
        self,
        config_json: str,
        replay: Any = None,
        experts: build.ExpertArrays = (),
        initial: InitialWeights | None = None,
    ) -> None:
        """Build everything; `replay` is the experience's own host, if it has one.

        `experts` are their weights, and `initial` an earlier run's, at a run's first start.
        """
        import torch

        self._config = RunConfig.model_validate_json(config_json)
        torch.set_num_threads(self._config.learner.threads)
        tasks = build.tasks_of(self._config)
        self._replay = replay
        self._experience: Experience = (
            RemoteExperience(self._replay)
            if self._replay is not None
            else build.experience(self._config, tasks)
        )
        self._door = WorkerDoor(self._experience, version_delay=self._config.actors.version_delay)
        self._learner = build.learner(self._config, tasks, experts, initial)
        self._loop = LearnerLoop(
            self._learner,
            self._publish,
            publish_every=self._config.learner.publish_every,
            progress=lambda: self._experience.steps / self._config.total_steps,
        )
        self._between_updates = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._masks: list[Any] = []
        self._put_mask_version = -1
        self._wait_s = 0.0
        self._busy_s = 0.0

    # -- life ------------------------------------------------------------------------------------

    async def start(self, state: State | None) -> None:
        """Take up a checkpoint if there is one, publish the weights, and begin to learn."""
        await asyncio.to_thread(self._start, state)
        # Only now: nothing may be counted before the counters are restored.
        self._door.open()

    def _start(self, state: State | None) -> None:
        if state is not None:
            self._learner.restore(state["learner"])
            self._loop.updates = int(state["counters"]["updates"])
            contents = build.saves_contents(self._config)
            self._experience.restore(
                state["experience"]
                if contents
                else {k: v for k, v in state["experience"].items() if k != "rows"}
            )
        self._loop.publish()
        if self._replay is not None:
            ray.get(self._replay.open.remote(), timeout=ANSWER_S)
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import torch

        torch.set_num_threads(self._config.learner.threads)
        gc.collect()
        gc.freeze()
        prefetcher = Prefetcher(self._experience)
        try:
            while not self._stopping.is_set() and self._experience.steps < self._config.total_steps:
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
        light = Weights(weights.version, np.zeros(0, np.float32), weights.guided)
        if weights.masks is not None and weights.mask_version != self._put_mask_version:
            self._masks = [ray.put(weights.masks)]
            self._put_mask_version = weights.mask_version
        published = Published(light, [ray.put(weights.vector)], self._masks)
        self._door.publish(published)
        if self._replay is not None:
            ray.get(self._replay.publish.remote(published), timeout=ANSWER_S)

    async def stop(self) -> None:
        """End updates after the one that is under way."""
        self._stopping.set()
        await asyncio.to_thread(self._experience.close)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._failure is None and self._learner.version > self._door.newest.weights.version:
            # The last evaluation is of what the last checkpoint holds.
            await asyncio.to_thread(self._loop.publish)

    # -- workers ---------------------------------------------------------------------------------

    async def insert(self, unroll: Unroll) -> Receipt:
        """Take an unroll; the answer waits (not for ever) until another one is wanted."""
        return await self._door.insert(unroll)

    async def room(self, worker: int) -> Receipt:
        """Wait until another unroll is wanted."""
        return await self._door.room(worker)

    async def weights(self, newer_than: int) -> Published | None:
        """Return what workers may have, if it is newer."""
        return await self._door.weights(newer_than)

    # -- driver ----------------------------------------------------------------------------------

    async def heartbeat(self) -> Heartbeat:
        """Return counters, silences and the failure that ended updates, if one did."""
        return Heartbeat(
            updates=self._loop.updates,
            env_steps=self._experience.steps,
            silent_s=await asyncio.to_thread(self._silences),
            failure=self._failure,
        )

    def _silences(self) -> dict[int, float]:
        if isinstance(self._experience, RemoteExperience):
            return self._experience.silences()
        return self._door.silences()

    async def report(self) -> Report:
        """Return metrics; waits for the update under way."""
        return await asyncio.to_thread(self._report)

    def _report(self) -> Report:
        with self._between_updates:
            metrics = self._learner.metrics()
            cosines = self._learner.cosines()
        metrics |= self._experience.metrics()
        total = self._wait_s + self._busy_s
        if total > 0:
            metrics["learner/waiting"] = self._wait_s / total
        self._wait_s = self._busy_s = 0.0
        return Report(
            self._loop.updates,
            self._experience.steps,
            metrics,
            self._experience.drain_episodes(),
            self._experience.guide_counts(),
            self._experience.drain_faults(),
            cosines,
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
                "weights": weights_state(weights),
                "experience": self._experience.state(contents=build.saves_contents(self._config)),
                "counters": {"env_steps": self._experience.steps, "updates": self._loop.updates},
            }

    async def acting_weights(self) -> Published:
        """Return the newest published weights, for evaluation."""
        return self._door.newest
