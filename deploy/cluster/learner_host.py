"""The actor that learns: batches come in, weights go out; it holds the experience too, unless that
has a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from deploy import build
from deploy.cluster.faults import PartnerLost
from deploy.cluster.joined import without_contents
from deploy.cluster.messages import Heartbeat, Report
from deploy.cluster.replay_host import RemoteExperience
from deploy.cluster.versions import versions_here
from deploy.cluster.worker_door import Published, Receipt, WorkerDoor
from deploy.finetuning.transplant import InitialWeights
from deploy.saved_agent import SavedCritic, critic_of
from deploy.several_learners import exchange_of, share_of
from learner.loop import LearnerLoop, Prefetcher
from repertory.config import RunConfig
from repertory.errors import RepertoryError
from repertory.ports import Batch, Experience, State
from repertory.types import Unroll, Weights, weights_state

if TYPE_CHECKING:
    from learner.parallel.lockstep import Lockstep

LOOK_S = 0.2
"""So long a learner waits for a batch of its own before it asks how the others are."""


class LearnerHost:
    """Async Ray actor: its methods run on the event loop, updates on a thread of their own."""

    def __init__(
        self,
        config_json: str,
        replay: Any = None,
        experts: build.ExpertArrays = (),
        initial: InitialWeights | None = None,
        rank: int = 0,
    ) -> None:
        """Build everything; `replay` is the experience's own host, if it has one.

        `experts` are their weights, and `initial` an earlier run's, at a run's first start. `rank`
        is this learner's number among those of the run.
        """
        import torch

        from learner.parallel.lockstep import Lockstep

        self._config = RunConfig.model_validate_json(config_json)
        torch.set_num_threads(self._config.learner.threads)
        tasks = build.tasks_of(self._config)
        self._experience: Experience = (
            RemoteExperience(replay)
            if replay is not None
            else build.experience(share_of(self._config, rank), tasks)
        )
        self._door = WorkerDoor(self._experience, version_delay=self._config.actors.version_delay)
        exchange = exchange_of(self._config, rank)
        self._lockstep: Lockstep = Lockstep(exchange)
        self._learner = build.learner(self._config, tasks, experts, initial, exchange)
        self._loop = LearnerLoop(
            self._learner,
            self._publish,
            publish_every=self._config.learner.publish_every,
            progress=lambda: self._steps_of_all / self._config.total_steps,
        )
        self._steps_of_all = 0
        self._between_updates = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._masks: list[Any] = []
        self._put_mask_version = -1
        self._wait_s = 0.0
        self._busy_s = 0.0

    # -- life ------------------------------------------------------------------------------------

    async def process_id(self) -> int:
        """Return the process id."""
        return os.getpid()

    async def versions(self) -> tuple[str, dict[str, str]]:
        """Return the node's address, and the versions on it."""
        return self._address(), versions_here()

    async def meeting_place(self) -> tuple[str, int]:
        """Return the address and the port at which this learner, the first, waits for others."""
        address = self._address()
        return address, self._lockstep.open_door(address)

    def _address(self) -> str:
        # A cluster of our own is all on this machine, and nobody else need reach it.
        return str(ray.util.get_node_ip_address()) if self._config.address else "127.0.0.1"

    async def start(self, state: State | None, place: tuple[str, int] | None = None) -> None:
        """Meet the other learners, take up a checkpoint if there is one, publish, begin to learn.

        Of a checkpoint a learner may get its own share of the experience, or none.
        """
        await asyncio.to_thread(self._start, state, place)
        # Only now: nothing may be counted before the counters are restored.
        self._door.open()

    def _start(self, state: State | None, place: tuple[str, int] | None) -> None:
        if place is not None:
            self._lockstep.meet(*place, self._address())
        if state is not None:
            self._learner.restore(state["learner"])
            self._loop.updates = int(state["counters"]["updates"])
            experience = state["experience"]
            if experience is not None:
                contents = build.saves_contents(self._config)
                self._experience.restore(experience if contents else without_contents(experience))
        self._loop.publish()
        if isinstance(self._experience, RemoteExperience):
            self._experience.open()
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import torch

        from learner.parallel.exchange import ExchangeLost

        torch.set_num_threads(self._config.learner.threads)
        gc.collect()
        gc.freeze()
        prefetcher = Prefetcher(self._experience)
        try:
            self._learn(prefetcher)
        except ExchangeLost as error:
            self._failure = PartnerLost(str(error))
        except BaseException as error:
            self._failure = (
                error
                if isinstance(error, RepertoryError)
                else RuntimeError(f"{type(error).__name__}: {error}")
            )
        finally:
            # Others that wait for this learner in vain hear of it now.
            self._lockstep.leave()
            prefetcher.stop()

    def _learn(self, prefetcher: Prefetcher) -> None:
        """Update in step with the other learners, until the budget is spent or one is to stop."""
        batch: Batch | None = None
        while True:
            before = time.perf_counter()
            agreed = self._lockstep.agree(
                ready=batch is not None,
                stopping=self._stopping.is_set(),
                steps=self._experience.steps,
            )
            self._steps_of_all = agreed.steps
            got = time.perf_counter()
            self._wait_s += got - before
            if agreed.learn and batch is not None:
                with self._between_updates:
                    self._loop.update(batch)
                    self._lockstep.compare(self._loop.updates, self._learner.weights)
                batch = None
                self._busy_s += time.perf_counter() - got
            if agreed.stop or agreed.steps >= self._config.total_steps:
                return
            if batch is None:
                before = time.perf_counter()
                batch = prefetcher.next_batch(LOOK_S)
                self._wait_s += time.perf_counter() - before

    def _publish(self, weights: Weights) -> None:
        light = Weights(weights.version, np.zeros(0, np.float32), weights.guided)
        if weights.masks is not None and weights.mask_version != self._put_mask_version:
            self._masks = [ray.put(weights.masks)]
            self._put_mask_version = weights.mask_version
        published = Published(light, [ray.put(weights.vector)], self._masks)
        self._door.publish(published)
        if isinstance(self._experience, RemoteExperience):
            self._experience.publish(published)

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
            delivered=self._delivered(),
        )

    def _delivered(self) -> dict[int, int]:
        if isinstance(self._experience, RemoteExperience):
            return self._experience.delivered()
        return self._door.delivered()

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

    async def share(self) -> State:
        """Return the part of a checkpoint that learners do not have in common."""
        return await asyncio.to_thread(
            lambda: {
                "experience": self._experience.state(contents=build.saves_contents(self._config)),
                "counters": {"env_steps": self._experience.steps},
            }
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

    async def critic(self) -> SavedCritic | None:
        """Return the critic where actors have none; waits for the update under way."""
        return await asyncio.to_thread(self._critic)

    def _critic(self) -> SavedCritic | None:
        with self._between_updates:
            return critic_of(self._learner.state())

    async def acting_weights(self) -> Published:
        """Return the newest published weights, for evaluation."""
        return self._door.newest
