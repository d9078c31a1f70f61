"""The driver of a run on Ray: from a config or a checkpoint to the last evaluation."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from deploy import build, left_over
from deploy.cluster.exported_metrics import ExportedMetrics
from deploy.cluster.faults import ANSWER_S, PartLost
from deploy.cluster.learner_places import gpus_of_each
from deploy.cluster.object_stores import warn_of_small_stores
from deploy.cluster.ray_session import ray_session
from deploy.cluster.restarts import Restarts
from deploy.cluster.supervisor import HEARTBEAT_S, Supervisor
from deploy.last_checkpoint import save_last, tell_what_is_lost
from deploy.recorder import Recorder
from deploy.signals import StopRequest
from deploy.sinks import sinks_of
from deploy.worker_numbers import with_number
from repertory import checkpoint
from repertory.config import RunConfig
from repertory.errors import RepertoryError

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)


def train(config: RunConfig, run: RunDirectory, resume: bool) -> int:
    """Train on Ray and return the exit code."""
    config = with_number(config)
    state = None
    if resume:
        state, path, _ = checkpoint.load_latest(run.checkpoints)
        log.info("resumed from %s", path.name)
    tasks = build.tasks_of(config)
    if not config.address:
        left_over.mark()
    with StopRequest() as stop, ray_session(config, lambda: bool(stop)):
        # Ray puts a SIGTERM handler of its own in place when it connects.
        stop.rearm()
        if config.address:
            warn_of_small_stores(config)
        # A cluster of our own is gone with the run, and has no exporter.
        names = [task.name for task in tasks]
        others = [ExportedMetrics(run.name, names)] if config.address else []
        sinks = sinks_of(config, tasks, run, others=others)
        restarts = Restarts(config, run)
        # Asked once: a learner whose GPU is lost does not go on a hundred times slower without it.
        gpus = gpus_of_each(config)
        incarnation = 0
        try:
            while True:
                # What a lost learner had not saved is not counted twice: a recorder of its own.
                recorder = Recorder(config, tasks, run, sinks)
                if state is not None:
                    recorder.restore(state)
                supervisor = Supervisor(
                    config, run, recorder, learner_restarts=restarts.count, gpus=gpus
                )
                try:
                    supervisor.start(state, incarnation=incarnation)
                    state = None
                    _watch(config, supervisor, recorder, stop)
                    _end(config, supervisor, recorder, run, stop)
                    break
                except PartLost as lost:
                    supervisor.abandon()
                    if stop:
                        tell_what_is_lost(run, str(lost).partition("; ")[0])
                        break
                    state = restarts.after(lost)
                    incarnation = supervisor.next_incarnation
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
    evaluated = config.evaluation.index(beat.env_steps)
    logged = recorder.wall_s
    saved, saved_updates = recorder.wall_s, beat.updates
    while beat.env_steps < config.total_steps and not stop:
        time.sleep(HEARTBEAT_S)
        beat = supervisor.heartbeat()
        now = recorder.wall_s
        if now - logged >= config.logging.every_s:
            supervisor.ask_report()
            logged = now
        supervisor.take_report(0.0)
        due = config.evaluation.due(beat.env_steps, config.total_steps)
        if due > evaluated and supervisor.begin_evaluation(beat):
            evaluated = due
        supervisor.evaluations.collect(0.0)
        by_updates = config.checkpoint.every_updates
        if (by_updates and beat.updates - saved_updates >= by_updates) or (
            not by_updates and now - saved >= config.checkpoint.every_s
        ):
            supervisor.save()
            saved, saved_updates = now, beat.updates


def _end(
    config: RunConfig,
    supervisor: Supervisor,
    recorder: Recorder,
    run: RunDirectory,
    stop: StopRequest,
) -> None:
    supervisor.stop()
    supervisor.take_report(ANSWER_S)
    supervisor.ask_report()
    supervisor.take_report(ANSWER_S)
    save_last(lambda: supervisor.save(last=True), recorder, run, stop)
    supervisor.heartbeat_of_learner()
    if not stop and config.evaluation.at_end:
        while not stop and supervisor.evaluations.under_way:
            supervisor.evaluations.collect(1.0)
        supervisor.begin_evaluation(supervisor.heartbeat_of_learner())
        while not stop and supervisor.evaluations.under_way:
            supervisor.evaluations.collect(1.0)
