"""Everything alive in a run on Ray: starts the actors, replaces what dies or falls silent, asks for
what is recorded.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from deploy import build
from deploy.cluster import nodes
from deploy.cluster.evaluations import Evaluations
from deploy.cluster.faults import why_ended
from deploy.cluster.learners import START_S, Learners
from deploy.cluster.messages import Heartbeat
from deploy.cluster.node_metrics import NodeMetrics
from deploy.cluster.placements import Placements
from deploy.cluster.worker_host import WorkerHost
from deploy.cluster.worker_lines import WorkerLines, log_last_words
from deploy.recorder import Recorder
from deploy.worker_numbers import planned_workers
from repertory.config import RunConfig
from repertory.errors import ClusterFailure
from repertory.ports import State

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.5
LAST_LINES_S = 5.0
"""At the end of a run, for what workers have to say: one that hangs says nothing at all."""


@dataclass(slots=True)
class _Worker:
    """One rollout worker as the driver sees it."""

    handle: Any
    running: Any
    incarnation: int
    since: float
    restarts: int = 0


class Supervisor:
    """Everything alive in one training run on Ray."""

    def __init__(
        self, config: RunConfig, run: RunDirectory, recorder: Recorder, *, learner_restarts: int = 0
    ) -> None:
        self._config = config
        self._json = config.model_dump_json()
        self._run = run
        self._recorder = recorder
        self._tasks = [task.name for task in build.tasks_of(config)]
        self._incarnation = 0
        self._workers: dict[int, _Worker] = {}
        self._restarts = 0
        self._placements = Placements(run, planned_workers(config))
        self._lines = WorkerLines()
        self._learner_restarts = learner_restarts
        self._nodes = NodeMetrics(config.logging.node_metrics, config.address)
        self.evaluations = Evaluations(config, self._tasks, run, recorder)
        self._learners = Learners(
            config, f"the newest checkpoint is kept: repertory train --resume {run.path}"
        )

    # -- start -----------------------------------------------------------------------------------

    def start(self, state: State | None, *, incarnation: int = 0) -> None:
        """Create learner and workers and set them going; these are of `incarnation` or later."""
        self._incarnation = incarnation
        self._learners.create(state)
        if state is not None:
            saved = int(state["counters"].get("incarnation", 0))
            self._incarnation = max(incarnation, saved + 1)
        # Workers build their emulators while the learner builds its network.
        for worker in range(planned_workers(self._config)):
            self._start_worker(worker, self._incarnation)
        self._learners.begin(state)

    def _start_worker(self, worker: int, incarnation: int) -> None:
        before = self._workers.get(worker)
        place = nodes.suiting("actor") if self._config.address else {}
        host = ray.remote(WorkerHost).options(
            num_cpus=1, max_restarts=0, max_concurrency=2, **place
        )
        lanes = build.assignment(self._config, len(self._tasks), worker)
        tasks = [self._tasks[task] for task in dict.fromkeys(lanes)]
        door = self._learners.door_for(worker)
        handle = host.remote(self._json, door, worker, incarnation, tasks)
        self._workers[worker] = _Worker(
            handle=handle,
            running=handle.run.remote(),
            incarnation=incarnation,
            since=time.monotonic(),
            restarts=before.restarts + 1 if before else 0,
        )
        self._placements.expect(worker, incarnation, tasks, handle)
        self._incarnation = max(self._incarnation, incarnation)

    def worker_process_ids(self) -> list[int]:
        """Return the workers' process ids (for tests that kill them)."""
        handles = [worker.handle.process_id.remote() for worker in self._workers.values()]
        return [int(pid) for pid in ray.get(handles, timeout=START_S)]

    def learner_actor(self) -> Any:
        """Return the learner's handle (for tests that kill it)."""
        return self._learners.first

    # -- watch -----------------------------------------------------------------------------------

    def heartbeat_of_learner(self) -> Heartbeat:
        """Hear the learner, and raise what ended its updates."""
        return self._learners.heartbeat()

    def heartbeat(self) -> Heartbeat:
        """Hear the learner, replace workers that died or fell silent."""
        beat = self.heartbeat_of_learner()
        ended, _ = ray.wait(
            [w.running for w in self._workers.values()],
            num_returns=len(self._workers),
            timeout=0,
        )
        for index in self._placements.arrived():
            self._workers[index].since = time.monotonic()
        for index, worker in list(self._workers.items()):
            if worker.running in ended:
                self._replace(index, why_ended(worker.running))
                continue
            if self._waits_for_a_core(index):
                continue
            alive_s = time.monotonic() - worker.since
            heard_s = beat.silent_s.get(index, alive_s)
            silent_s = min(heard_s, alive_s)
            # Importing torch and building emulators comes before the first unroll; what was heard
            # before this worker began came from its predecessor.
            starting_s = START_S if heard_s >= alive_s else 0.0
            allowed_s = self._config.actors.timeout_s + starting_s
            if silent_s > allowed_s:
                self._replace(index, f"silent for {silent_s:.0f} s")
        return beat

    def _waits_for_a_core(self, index: int) -> bool:
        waited_s = self._placements.waiting_s(index)
        if waited_s is None:
            return False
        # A start can get stuck on a node that fell silent meanwhile: then there are cores free.
        return waited_s < START_S or ray.available_resources().get("CPU", 0.0) < 1.0

    def _replace(self, index: int, reason: str) -> None:
        worker = self._workers[index]
        ray.kill(worker.handle, no_restart=True)
        log.warning("worker %d: %s; starting a replacement", index, reason)
        self._run.event("worker_replaced", worker=index, reason=reason)
        self._lines.forget(index)
        if index in self._placements.known:
            log_last_words(self._placements.known[index])
        self._restarts += 1
        if worker.restarts >= self._config.actors.max_restarts:
            raise ClusterFailure(
                f"worker {index} was replaced {worker.restarts} times and died again ({reason})"
            )
        self._start_worker(index, self._incarnation + 1)

    # -- records ---------------------------------------------------------------------------------

    def ask_report(self) -> None:
        """Ask learner and nodes for their metrics, unless these are awaited already, and workers
        for what they warn of.
        """
        self._learners.ask_report()
        self._nodes.ask()
        self._ask_for_lines()

    def _ask_for_lines(self) -> None:
        there = self._placements.known
        self._lines.ask({index: w.handle for index, w in self._workers.items() if index in there})

    def take_report(self, wait_s: float) -> None:
        """Write the report that was asked for, if it comes within `wait_s`."""
        self._lines.take(0.0)
        report = self._learners.take_report(wait_s)
        if report is None:
            return
        self._recorder.episodes(report.episodes)
        self._recorder.faults(report.faults)
        health = {
            "health/actors_alive": float(len(self._workers) - self._placements.waiting),
            "health/actors_waiting": float(self._placements.waiting),
            "health/actor_restarts": float(self._restarts),
            "health/learner_restarts": float(self._learner_restarts),
        }
        self._recorder.row(
            report.env_steps,
            report.updates,
            report.metrics | health | self._nodes.take(),
            report.guides,
            report.cosines,
        )

    def save(self, *, last: bool = False) -> bool:
        """Write a checkpoint."""
        state = self._learners.state()
        state["counters"]["incarnation"] = self._incarnation
        return self._recorder.save(state, last=last)

    def begin_evaluation(self, beat: Heartbeat) -> bool:
        """Start an evaluation of the newest weights; False while another one is under way."""
        if self.evaluations.under_way:
            return False
        newest = self._learners.newest()
        self.evaluations.begin(
            newest.weights.version,
            newest.vector,
            beat.env_steps,
            beat.updates,
            masks=newest.masks,
        )
        return True

    # -- end -------------------------------------------------------------------------------------

    @property
    def next_incarnation(self) -> int:
        """One that none of these workers had."""
        return self._incarnation + 1

    def abandon(self) -> None:
        """Kill whatever still lives: another supervisor goes on from a checkpoint."""
        self.evaluations.abandon()
        self._nodes.stop()
        self._placements.close()
        for worker in self._workers.values():
            ray.kill(worker.handle, no_restart=True)
        self._learners.kill()

    def stop(self) -> None:
        """Let workers and learner finish what they are at."""
        for worker in self._workers.values():
            worker.handle.stop.remote()
        self._learners.stop()
        self._nodes.stop()
        self._lines.take(0.0)
        self._ask_for_lines()
        self._lines.take(LAST_LINES_S)
        self._placements.close()
        for worker in self._workers.values():
            ray.kill(worker.handle, no_restart=True)
