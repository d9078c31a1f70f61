"""The actors that play: rollout workers, which run on their own, and the evaluator."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import ray

from actors.evaluator import TaskScore
from deploy import build
from deploy.cluster import worker_log
from deploy.cluster.faults import ANSWER_S, OPEN_S, in_a_line
from deploy.cluster.worker_door import Published, Receipt
from deploy.evaluation import evaluate_training
from deploy.saved_agent import SavedCritic
from deploy.video.films import Film, films_of
from repertory.config import RunConfig
from repertory.errors import ClusterFailure
from repertory.types import Weights

log = logging.getLogger(__name__)

IDLE_S = 1.0
"""Between the deliveries of a worker that has given up all its tasks."""


class Answers:
    """What the learner answers, each time within a deadline.

    The first answer comes when the learner's door opens: a large replay is restored before.
    """

    def __init__(self) -> None:
        self._deadline_s = OPEN_S

    def take(self, reference: Any, what: str) -> Any:
        """Return what a call to the learner came to; ClusterFailure after the deadline."""
        try:
            found = ray.get(reference, timeout=self._deadline_s)
        except ray.exceptions.GetTimeoutError as error:
            raise ClusterFailure(
                f"the learner did not answer {what} within {self._deadline_s:.0f} s"
            ) from error
        self._deadline_s = ANSWER_S
        return found


class LearnerWeights:
    """`WeightSource` that pulls from the learner's host, and only when a receipt named a newer
    one.
    """

    def __init__(self, learner: Any, answers: Answers) -> None:
        self._learner = learner
        self._answers = answers
        self.announced = 0

    def newer_than(self, version: int) -> Weights | None:
        """Return the newest weights if they are newer than `version`."""
        if version >= self.announced:
            return None
        take = self._answers.take
        found: Published | None = take(
            self._learner.weights.remote(version), "a request for weights"
        )
        if found is None:
            return None
        vector = take(found.vector[0], "a request for weights")
        masks = take(found.masks[0], "a request for masks") if found.masks else None
        return Weights(found.weights.version, vector, found.weights.guided, masks)


class WorkerHost:
    """Threaded Ray actor: `run` plays until told to stop, delivering straight to the learner."""

    def __init__(
        self,
        config_json: str,
        learner: Any,
        worker: int,
        incarnation: int,
        tasks: Sequence[str] = (),
    ) -> None:
        """Prepare worker `worker`, whose lanes play `tasks`, to deliver to `learner`."""
        self._kept = worker_log.begin(worker, tasks)
        self._config = RunConfig.model_validate_json(config_json)
        self._learner = learner
        self._worker = worker
        self._incarnation = incarnation
        self._answers = Answers()
        self._weights = LearnerWeights(learner, self._answers)
        self._stopping = threading.Event()

    def process_id(self) -> int:
        """Return the process id."""
        return os.getpid()

    def place(self) -> worker_log.Place:
        """Return where this worker is, and where its log is kept."""
        return worker_log.place_of_this_process()

    def said(self) -> tuple[list[str], int]:
        """Return the warnings since the last call, and how many were dropped before these."""
        return self._kept.take()

    def run(self) -> None:
        """Play and deliver; at most `actors.max_outstanding` deliveries await their receipt."""
        try:
            self._run()
        except Exception:
            # The driver is told by Ray; this is for whoever reads this worker's own log.
            log.exception("the worker ends")
            raise

    def _run(self) -> None:
        import torch

        torch.set_num_threads(1)
        # Not in the constructor: what an environment raises there, Ray reports as a dead process.
        rollout = build.rollout_worker(
            self._config,
            build.tasks_of(self._config),
            self._weights,
            worker=self._worker,
            incarnation=self._incarnation,
        )
        # What is there now stays: without it in the way, collections cost nothing beside a step.
        gc.collect()
        gc.freeze()
        sent: deque[Any] = deque()
        while not self._stopping.is_set():
            unroll = rollout.iterate()
            if unroll.given_up and not unroll.valid.any():
                # Nothing left to play; it says so now and then, lest the others wait for its tasks.
                self._stopping.wait(IDLE_S)
            sent.append(self._learner.insert.remote(unroll))
            del unroll
            while len(sent) >= self._config.actors.max_outstanding:
                self._take(sent.popleft())
        while sent:
            self._take(sent.popleft())

    def _take(self, reference: Any) -> None:
        take = self._answers.take
        receipt: Receipt = take(reference, "a delivery")
        while not receipt.room and not self._stopping.is_set():
            receipt = take(self._learner.room.remote(self._worker), "a request for room")
        self._weights.announced = max(self._weights.announced, receipt.version)

    def stop(self) -> None:
        """Let `run` return after the unroll under way."""
        self._stopping.set()


class EvaluatorHost:
    """Ray actor that plays evaluation episodes beside training."""

    def __init__(self, config_json: str) -> None:
        import torch

        torch.set_num_threads(1)
        self._config = RunConfig.model_validate_json(config_json)

    def evaluate(
        self,
        published: Published,
        task_names: Sequence[str],
        env_steps: int,
        critic: list[Any],
    ) -> tuple[list[TaskScore], list[Film]]:
        """Evaluate the weights under the run's evaluation settings, and film what is asked for.

        `critic` may hold a reference to what films draw the value by.
        """
        vector = ray.get(published.vector[0], timeout=ANSWER_S)
        masks = ray.get(published.masks[0], timeout=ANSWER_S) if published.masks else None
        weights = Weights(published.weights.version, vector, published.weights.guided, masks)
        scores = evaluate_training(self._config, weights, env_steps=env_steps)
        films = films_of(
            self._config,
            weights,
            task_names,
            seed=self._config.evaluation.seed,
            env_steps=env_steps,
            critic=_critic_behind(critic),
        )
        return scores, films


def _critic_behind(references: Sequence[Any]) -> SavedCritic | None:
    """Return the critic behind a reference; films do without one that does not come."""
    if not references:
        return None
    try:
        critic: SavedCritic | None = ray.get(references[0], timeout=ANSWER_S)
        return critic
    except ray.exceptions.RayError as error:
        log.warning("films have no values: the learner gave no critic (%s)", in_a_line(error))
        return None
