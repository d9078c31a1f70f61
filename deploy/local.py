"""The local runtime: every part in one process, in a fixed order, repeatable to the bit."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from deploy import build
from deploy.evaluation import evaluate_training
from deploy.experts import expert_arrays
from deploy.finetuning.parent import initial_weights
from deploy.last_checkpoint import save_last
from deploy.recorder import Recorder
from deploy.signals import StopRequest
from deploy.sinks import sinks_of
from deploy.video.films import Film, critic_for_films, films_of
from deploy.worker_numbers import planned_workers
from learner.loop import LearnerLoop
from repertory import checkpoint
from repertory.config import RunConfig
from repertory.errors import RepertoryError
from repertory.ports import State
from repertory.types import Weights, weights_from_state, weights_state

if TYPE_CHECKING:
    from actors.worker import RolloutWorker
    from deploy.finetuning.transplant import InitialWeights
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)


class LatestWeights:
    """`WeightSource` within one process; with a delay, of the version published so long before."""

    def __init__(self, delay: int = 0) -> None:
        self.published: deque[Weights] = deque(maxlen=delay + 1)

    @property
    def latest(self) -> Weights | None:
        """What actors may have."""
        return self.published[0] if self.published else None

    def publish(self, weights: Weights) -> None:
        """Make `weights` the newest."""
        self.published.append(weights)

    def newer_than(self, version: int) -> Weights | None:
        """Return the newest weights if they are newer than `version`."""
        if self.latest is not None and self.latest.version > version:
            return self.latest
        return None


class LocalRun:
    """All parts of a run. `round` is one unroll of every worker and the updates that it allows."""

    def __init__(
        self,
        config: RunConfig,
        experts: build.ExpertArrays = (),
        initial: InitialWeights | None = None,
    ) -> None:
        """Build every part; `experts` and `initial` are weights that a checkpoint brings too."""
        self.config = config
        self.tasks = build.tasks_of(config)
        self.experience = build.experience(config, self.tasks)
        self.learner = build.learner(config, self.tasks, experts, initial)
        self.weights = LatestWeights(config.actors.version_delay)
        self.loop = LearnerLoop(
            self.learner,
            self._publish,
            publish_every=config.learner.publish_every,
            progress=lambda: self.experience.steps / config.total_steps,
        )
        self.incarnation = 0
        self.workers = self._build_workers()
        self.loop.publish()

    def _build_workers(self) -> list[RolloutWorker]:
        return [
            build.rollout_worker(
                self.config, self.tasks, self.weights, worker=w, incarnation=self.incarnation
            )
            for w in range(planned_workers(self.config))
        ]

    def _publish(self, weights: Weights) -> None:
        self.weights.publish(weights)
        self.experience.published(weights)

    def round(self) -> None:
        """Let every worker play one unroll, then update while whole batches are there."""
        for worker in self.workers:
            self.experience.insert(worker.iterate())
        while (batch := self.experience.next_batch(0.0)) is not None:
            self.loop.update(batch)

    def state(self) -> State:
        """Return the whole run: learner, experience, workers, counters."""
        weights = self.learner.weights()
        return {
            "runtime": "local",
            "learner": self.learner.state(),
            "weights": weights_state(weights),
            "published": [weights_state(published) for published in self.weights.published],
            "experience": self.experience.state(contents=build.saves_contents(self.config)),
            "workers": [worker.state() for worker in self.workers],
            "counters": {
                "env_steps": self.experience.steps,
                "updates": self.loop.updates,
                "incarnation": self.incarnation,
            },
        }

    def restore(self, state: State) -> None:
        """Take up `state`. With other workers than were saved, these begin new episodes."""
        self.learner.restore(state["learner"])
        self.loop.updates = int(state["counters"]["updates"])
        self.experience.restore(state["experience"])
        for published in state.get("published", [state["weights"]]):
            self._publish(weights_from_state(published))
        saved = state.get("workers", [])
        if len(saved) == len(self.workers) and _same_lanes(self.workers, saved):
            self.incarnation = int(state["counters"]["incarnation"])
            for worker, worker_state in zip(self.workers, saved, strict=True):
                worker.restore(worker_state)
        else:
            self.close()
            self.incarnation = int(state["counters"]["incarnation"]) + 1
            self.workers = self._build_workers()

    def close(self) -> None:
        """Free the workers."""
        for worker in self.workers:
            worker.close()


def _same_lanes(workers: list[RolloutWorker], saved: list[State]) -> bool:
    shapes = [[group["age"].shape for group in s["unroller"]["groups"]] for s in saved]
    # A worker that had given a task up saved no environments: it begins anew, the task included.
    whole = all(
        "given_up" not in group["lanes"] for s in saved for group in s["unroller"]["groups"]
    )
    return whole and all(
        worker.lane_shapes == shape for worker, shape in zip(workers, shapes, strict=True)
    )


def train(
    config: RunConfig,
    run: RunDirectory,
    resume: bool,
    *,
    after_round: Callable[[LocalRun], bool] = lambda _: False,
    console: Console | None = None,
) -> int:
    """Train in this process and return the exit code.

    `after_round` may end the run early by returning True (tests use it); the run then ends as on
    Ctrl-C, with a checkpoint. `console` is where the progress goes, standard output by default.
    """
    # As in the cluster: more threads than were asked for would change the numbers, and on a busy
    # machine small products wait for each other.
    torch.set_num_threads(config.learner.threads)
    local = (
        LocalRun(config)
        if resume
        else LocalRun(config, expert_arrays(config), initial_weights(config))
    )
    sink = sinks_of(config, local.tasks, run, console)
    recorder = Recorder(config, local.tasks, run, sink)
    if resume:
        state, path, _ = checkpoint.load_latest(run.checkpoints)
        local.restore(state)
        recorder.restore(state)
        log.info("resumed from %s", path.name)
    evaluated = config.evaluation.index(local.experience.steps)
    saved_at = logged_at = local.loop.updates
    saved_wall = recorder.wall_s
    ended_early = False
    with StopRequest() as stop:
        try:
            while local.experience.steps < config.total_steps and not stop and not ended_early:
                local.round()
                updates = local.loop.updates
                recorder.episodes(local.experience.drain_episodes())
                recorder.faults(local.experience.drain_faults())
                if updates - logged_at >= config.logging.every_updates:
                    _log(local, recorder)
                    logged_at = updates
                due = config.evaluation.due(local.experience.steps, config.total_steps)
                if due > evaluated:
                    evaluated = due
                    _evaluate(local, recorder, stop)
                if _checkpoint_due(config, updates - saved_at, recorder.wall_s - saved_wall):
                    recorder.save(local.state())
                    saved_at, saved_wall = updates, recorder.wall_s
                ended_early = after_round(local)
            _log(local, recorder)
            state = local.state()
            save_last(lambda: recorder.save(state, last=True), recorder, run, stop)
            if config.evaluation.at_end and not stop and not ended_early:
                _evaluate(local, recorder, stop)
        except RepertoryError as failure:
            run.event("failed", reason=str(failure))
            raise
        finally:
            recorder.close()
            local.close()
    return stop.exit_code


def _log(local: LocalRun, recorder: Recorder) -> None:
    metrics = local.learner.metrics() | local.experience.metrics()
    metrics["health/actors_alive"] = len(local.workers)
    guides = local.experience.guide_counts()
    cosines = local.learner.cosines()
    recorder.row(local.experience.steps, local.loop.updates, metrics, guides, cosines)


def _evaluate(local: LocalRun, recorder: Recorder, stop: StopRequest) -> None:
    config, weights, steps = local.config, local.learner.weights(), local.experience.steps
    scores = evaluate_training(config, weights, env_steps=steps, should_stop=lambda: bool(stop))
    films: list[Film] = []
    if not stop:
        names = [task.name for task in local.tasks]
        critic = critic_for_films(config, local.learner.state)
        seed = config.evaluation.seed
        films = films_of(config, weights, names, seed=seed, env_steps=steps, critic=critic)
    recorder.evaluation(steps, local.loop.updates, scores, films)


def _checkpoint_due(config: RunConfig, updates: int, seconds: float) -> bool:
    if config.checkpoint.every_updates:
        return updates >= config.checkpoint.every_updates
    return seconds >= config.checkpoint.every_s
