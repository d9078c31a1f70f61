"""The driver: starts the actors, notices what dies or falls silent, and writes the run's
records.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from deploy import build
from deploy.cluster.learner_host import Heartbeat, LearnerHost, Report
from deploy.cluster.ray_session import ray_session
from deploy.cluster.worker_host import EvaluatorHost, WorkerHost
from deploy.recorder import Recorder
from deploy.signals import StopRequest
from deploy.sinks import sinks_of
from repertory import checkpoint
from repertory.config import RunConfig
from repertory.errors import ClusterFailure, RepertoryError
from repertory.ports import State

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.5
ANSWER_S = 60.0
"""The learner's event loop answers in milliseconds; a minute without an answer means it is lost."""
START_S = 300.0
CHECKPOINT_S = 120.0


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

    def __init__(self, config: RunConfig, run: RunDirectory, recorder: Recorder) -> None:
        self._config = config
        self._json = config.model_dump_json()
        self._run = run
        self._recorder = recorder
        self._tasks = [task.name for task in build.tasks_of(config)]
        self._incarnation = 0
        self._workers: dict[int, _Worker] = {}
        self._restarts = 0
        self._evaluator: Any = None
        self._evaluation: tuple[Any, int, int] | None = None
        self._report: Any = None
        self._learner: Any = None

    # -- start -----------------------------------------------------------------------------------

    def start(self, state: State | None) -> None:
        """Create learner and workers and set them going."""
        gpus = 1 if _learner_on_gpu(self._config) else 0
        host = ray.remote(LearnerHost).options(num_cpus=1, num_gpus=gpus, max_restarts=0)
        self._learner = host.remote(self._json)
        if state is not None:
            self._incarnation = int(state["counters"].get("incarnation", 0)) + 1
        # Workers build their emulators while the learner builds its network.
        for worker in range(self._config.actors.count):
            self._start_worker(worker, self._incarnation)
        slim = None
        if state is not None:
            slim = {key: state[key] for key in ("learner", "queues", "counters")}
        self._ask(self._learner.start.remote(slim), START_S, "to start")

    def _start_worker(self, worker: int, incarnation: int) -> None:
        before = self._workers.get(worker)
        host = ray.remote(WorkerHost).options(num_cpus=1, max_restarts=0, max_concurrency=2)
        handle = host.remote(self._json, self._learner, worker, incarnation)
        self._workers[worker] = _Worker(
            handle=handle,
            running=handle.run.remote(),
            incarnation=incarnation,
            since=time.monotonic(),
            restarts=before.restarts + 1 if before else 0,
        )
        self._incarnation = max(self._incarnation, incarnation)

    def worker_process_ids(self) -> list[int]:
        """Return the workers' process ids (for tests that kill them)."""
        handles = [worker.handle.process_id.remote() for worker in self._workers.values()]
        return [int(pid) for pid in ray.get(handles, timeout=START_S)]

    def learner_actor(self) -> Any:
        """Return the learner's handle (for tests that kill it)."""
        return self._learner

    # -- watch -----------------------------------------------------------------------------------

    def _ask(self, reference: Any, deadline_s: float, what: str) -> Any:
        try:
            return ray.get(reference, timeout=deadline_s)
        except ray.exceptions.GetTimeoutError as error:
            raise ClusterFailure(
                f"the learner did not answer within {deadline_s:.0f} s when asked {what}"
            ) from error
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from error
        except ray.exceptions.RayActorError as error:
            raise ClusterFailure(
                f"the learner died when asked {what} ({_first_line(error)}); "
                f"the newest checkpoint is kept: repertory train --resume {self._run.path}"
            ) from error

    def heartbeat_of_learner(self) -> Heartbeat:
        """Hear the learner, and raise what ended its updates."""
        beat: Heartbeat = self._ask(
            self._learner.heartbeat.remote(), ANSWER_S, "for a sign of life"
        )
        if beat.failure is not None:
            raise beat.failure
        return beat

    def heartbeat(self) -> Heartbeat:
        """Hear the learner, replace workers that died or fell silent."""
        beat = self.heartbeat_of_learner()
        ended, _ = ray.wait(
            [w.running for w in self._workers.values()],
            num_returns=len(self._workers),
            timeout=0,
        )
        for index, worker in list(self._workers.items()):
            if worker.running in ended:
                self._replace(index, _why_ended(worker.running))
                continue
            alive_s = time.monotonic() - worker.since
            silent_s = min(beat.silent_s.get(index, alive_s), alive_s)
            # Building emulators and importing torch comes before the first unroll.
            allowed_s = self._config.actors.timeout_s + (
                START_S if index not in beat.silent_s else 0.0
            )
            if silent_s > allowed_s:
                self._replace(index, f"silent for {silent_s:.0f} s")
        return beat

    def _replace(self, index: int, reason: str) -> None:
        worker = self._workers[index]
        ray.kill(worker.handle, no_restart=True)
        log.warning("worker %d: %s; starting a replacement", index, reason)
        self._run.event("worker_replaced", worker=index, reason=reason)
        self._restarts += 1
        if worker.restarts >= self._config.actors.max_restarts:
            raise ClusterFailure(
                f"worker {index} was replaced {worker.restarts} times and died again ({reason})"
            )
        self._start_worker(index, self._incarnation + 1)

    # -- records ---------------------------------------------------------------------------------

    def log(self, *, wait: bool = False) -> None:
        """Write the report that was asked for, once it is there, and ask for the next one."""
        if self._report is None:
            self._report = self._learner.report.remote()
        timeout = ANSWER_S if wait else 0
        ready, _ = ray.wait([self._report], timeout=timeout)
        if not ready:
            return
        report: Report = self._ask(self._report, ANSWER_S, "for its metrics")
        self._report = None
        self._recorder.episodes(report.episodes)
        health = {
            "health/actors_alive": float(len(self._workers)),
            "health/actor_restarts": float(self._restarts),
        }
        self._recorder.row(report.env_steps, report.updates, report.metrics | health)

    def save(self, *, last: bool = False) -> bool:
        """Write a checkpoint."""
        state: State = self._ask(self._learner.state.remote(), CHECKPOINT_S, "for its state")
        state["counters"]["incarnation"] = self._incarnation
        return self._recorder.save(state, last=last)

    def begin_evaluation(self, beat: Heartbeat) -> None:
        """Start an evaluation on its own actor, unless one is still under way."""
        if self._evaluation is not None:
            return
        if self._evaluator is None:
            host = ray.remote(EvaluatorHost).options(num_cpus=1, max_restarts=-1)
            self._evaluator = host.remote(self._json)
        version, vector = self._ask(
            self._learner.acting_weights.remote(), ANSWER_S, "for its weights"
        )
        reference = self._evaluator.evaluate.remote(version, vector, self._tasks, beat.env_steps)
        self._evaluation = (reference, beat.env_steps, beat.updates)

    def finish_evaluation(self, timeout_s: float) -> bool:
        """Record the evaluation under way if it is done; True when none is left."""
        if self._evaluation is None:
            return True
        reference, env_steps, updates = self._evaluation
        ready, _ = ray.wait([reference], timeout=timeout_s)
        if not ready:
            return False
        self._evaluation = None
        try:
            scores, films = ray.get(reference)
            self._recorder.evaluation(env_steps, updates, scores, films)
        except ray.exceptions.RayError as error:
            # Training does not depend on it; the next evaluation starts the actor anew.
            log.warning("the evaluation at %d steps failed: %s", env_steps, _first_line(error))
            self._run.event("evaluation_failed", env_steps=env_steps, reason=_first_line(error))
        return True

    # -- end -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let workers and learner finish what they are at."""
        for worker in self._workers.values():
            worker.handle.stop.remote()
        self._ask(self._learner.stop.remote(), CHECKPOINT_S, "to stop")
        for worker in self._workers.values():
            ray.kill(worker.handle, no_restart=True)


def train(config: RunConfig, run: RunDirectory, resume: bool) -> int:
    """Train on Ray and return the exit code."""
    state = None
    if resume:
        state, path, _ = checkpoint.load_latest(run.checkpoints)
        log.info("resumed from %s", path.name)
    tasks = build.tasks_of(config)
    with StopRequest() as stop, ray_session(config):
        # Ray puts a SIGTERM handler of its own in place when it connects.
        stop.rearm()
        recorder = Recorder(config, tasks, run, sinks_of(config, tasks, run))
        if state is not None:
            recorder.restore(state)
        supervisor = Supervisor(config, run, recorder)
        try:
            supervisor.start(state)
            del state
            _watch(config, supervisor, recorder, stop)
            _end(config, supervisor, stop)
        except RepertoryError as failure:
            run.event("failed", reason=str(failure))
            raise
        finally:
            recorder.close()
    return stop.exit_code


def _watch(
    config: RunConfig, supervisor: Supervisor, recorder: Recorder, stop: StopRequest
) -> None:
    beat = supervisor.heartbeat()
    evaluated = _evaluation_index(config, beat.env_steps)
    logged = recorder.wall_s
    saved, saved_updates = recorder.wall_s, beat.updates
    while beat.env_steps < config.total_steps and not stop:
        time.sleep(HEARTBEAT_S)
        beat = supervisor.heartbeat()
        now = recorder.wall_s
        if now - logged >= config.logging.every_s:
            supervisor.log()
            logged = now
        due = _evaluation_index(config, beat.env_steps)
        if due > evaluated:
            evaluated = due
            supervisor.begin_evaluation(beat)
        supervisor.finish_evaluation(0.0)
        by_updates = config.checkpoint.every_updates
        if (by_updates and beat.updates - saved_updates >= by_updates) or (
            not by_updates and now - saved >= config.checkpoint.every_s
        ):
            supervisor.save()
            saved, saved_updates = now, beat.updates


def _end(config: RunConfig, supervisor: Supervisor, stop: StopRequest) -> None:
    supervisor.stop()
    supervisor.log(wait=True)
    supervisor.save(last=True)
    if not stop and config.evaluation.at_end:
        while not stop and not supervisor.finish_evaluation(1.0):
            pass
        supervisor.begin_evaluation(supervisor.heartbeat_of_learner())
        while not stop and not supervisor.finish_evaluation(1.0):
            pass


def _evaluation_index(config: RunConfig, env_steps: int) -> int:
    every = config.evaluation.every_steps
    return env_steps // every if every else 0


def _learner_on_gpu(config: RunConfig) -> bool:
    if config.learner.device == "cpu":
        return False
    wanted = config.learner.device == "cuda"
    return wanted or ray.cluster_resources().get("GPU", 0) >= 1


def _why_ended(reference: Any) -> str:
    """Return why a worker's process died; raise what its code raised, for that would recur."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError | ClusterFailure):
            # The learner did not answer it; whether the learner lives, the next heartbeat tells.
            return _first_line(error.cause)
        raise _cause(error) from error
    except ray.exceptions.RayError as error:
        return _first_line(error)
    return "ended by itself"


def _cause(error: Any) -> BaseException:
    cause = error.cause
    if isinstance(cause, RepertoryError):
        return cause
    return RuntimeError(f"{type(cause).__name__}: {cause}\n{error.traceback_str}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
