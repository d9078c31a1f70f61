"""Evaluations beside training: one at a time, on an actor of their own, with a deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from deploy.cluster.faults import ANSWER_S, in_a_line
from deploy.cluster.nodes import suiting
from deploy.cluster.remote_classes import remote_class
from deploy.cluster.worker_door import Published
from deploy.cluster.worker_host import EvaluatorHost
from deploy.recorder import Recorder
from repertory.config import RunConfig

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)


class Evaluations:
    """Starts evaluations and records their scores; a failed or hung one costs only itself."""

    def __init__(
        self, config: RunConfig, tasks: Sequence[str], run: RunDirectory, recorder: Recorder
    ) -> None:
        self._config = config
        self._tasks = list(tasks)
        self._run = run
        self._recorder = recorder
        self._evaluator: Any = None
        self._pending: Any = None
        self._placed = False
        self._env_steps = 0
        self._updates = 0
        self._began = 0.0

    @property
    def under_way(self) -> bool:
        """Whether scores are awaited."""
        return self._pending is not None

    @property
    def reserved_cores(self) -> int:
        """The free cores that others must leave: the evaluator's, until it is known to have one."""
        return int(self._config.evaluation.every_steps > 0 and not self._placed)

    def begin(
        self, published: Published, env_steps: int, updates: int, *, critic: Sequence[Any] = ()
    ) -> None:
        """Evaluate a publication; films draw values by the critic behind a reference."""
        if self._evaluator is None:
            place = suiting("learner") if self._config.address else {}
            host = remote_class(EvaluatorHost).options(num_cpus=1, max_restarts=0, **place)
            self._evaluator = host.remote(self._config.model_dump_json())
        self._pending = self._evaluator.evaluate.remote(
            published, self._tasks, env_steps, list(critic)
        )
        self._env_steps, self._updates, self._began = env_steps, updates, time.monotonic()

    def collect(self, wait_s: float) -> None:
        """Record the scores if they come within `wait_s`; give up on them after the deadline."""
        if self._pending is None:
            return
        ready, _ = ray.wait([self._pending], timeout=wait_s)
        limit_s = self._config.evaluation.timeout_s
        if not ready:
            if time.monotonic() - self._began > limit_s:
                self._give_up(f"no scores within evaluation.timeout_s = {limit_s:.0f} s")
            return
        try:
            scores, films = ray.get(self._pending, timeout=ANSWER_S)
        except ray.exceptions.RayError as error:
            self._give_up(in_a_line(error))
            return
        self._pending, self._placed = None, True
        self._recorder.evaluation(self._env_steps, self._updates, scores, films)

    def abandon(self) -> None:
        """Give up on scores and kill the evaluator: what it evaluates for is gone."""
        if self._evaluator is not None:
            ray.kill(self._evaluator, no_restart=True)
        self._evaluator = self._pending = None
        self._placed = False

    def _give_up(self, reason: str) -> None:
        # Training does not depend on it; the next evaluation starts on a new actor.
        log.warning("the evaluation at %d steps failed: %s", self._env_steps, reason)
        self._run.event("evaluation_failed", env_steps=self._env_steps, reason=reason)
        self.abandon()
