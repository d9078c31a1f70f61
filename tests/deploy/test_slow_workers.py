"""A worker that is slower than the others: it is named, and its task holds nobody up."""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import small_runs
from heartbeats import at_heartbeats
from ray import cloudpickle
from small_runs import counting_config, new_run, rows

from deploy import build, cluster
from deploy.cluster import workers
from deploy.cluster.joined import joined_heartbeat
from deploy.cluster.messages import Heartbeat
from deploy.cluster.supervisor import Supervisor
from deploy.cluster.worker_host import WorkerHost
from deploy.cluster.worker_rates import WorkerRates
from repertory.config import ActorConfig, EvaluationConfig, LoggingConfig, QueueConfig
from repertory.run_directory import RunDirectory
from repertory.types import Unroll

# What a worker's process needs of the tests travels by value: it has no path to them.
for module in (sys.modules[__name__], small_runs):
    cloudpickle.register_pickle_by_value(module)

SLOW = 1
SLOW_S = 2.0
PATIENCE_S = 0.5
RUN_S = 300.0
EVERY_S = 4.0


class SlowRollout:
    """Plays as another one does, after a pause before every unroll."""

    def __init__(self, rollout: Any) -> None:
        self._rollout = rollout

    def iterate(self) -> Unroll:
        """Wait, and play."""
        time.sleep(SLOW_S)
        unroll: Unroll = self._rollout.iterate()
        return unroll


class OneSlowWorkerHost(WorkerHost):
    """A worker's process, of which that of one number plays slowly."""

    def _run(self) -> None:
        if self._worker == SLOW:
            rollout_worker = build.rollout_worker
            build.rollout_worker = lambda *whose, **what: SlowRollout(  # type: ignore[assignment]
                rollout_worker(*whose, **what)
            )
        super()._run()


def naming_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows that name the slow worker, if they are of as long a time as was asked for.

    Rates are between two rows, and the last row of a run may follow at once on the one before.
    """
    whole = [
        row
        for before, row in pairwise(rows(run))
        if row["wall_s"] - before["wall_s"] >= 0.75 * EVERY_S
    ]
    return [row for row in whole if row.get("health/slowest_worker") == SLOW]


def test_a_slow_worker_is_named_and_its_task_does_not_hold_the_others_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WorkerHost", OneSlowWorkerHost)
    config = counting_config(
        runtime="cluster",
        # One lane each: worker i plays task i, and nobody else does.
        actors=ActorConfig(count=3, lanes=1, precision="fp32"),
        queue=QueueConfig(patience_s=PATIENCE_S, max_policy_lag=10_000),
        logging=LoggingConfig(wandb="disabled", every_s=EVERY_S),
        evaluation=EvaluationConfig(at_end=False),
        total_steps=10**9,
    )
    run = new_run(tmp_path, config)
    unroll = config.learner.unroll_length
    # A batch has two rows of each task, and an unroll of the slow worker is one: whoever waits for
    # it makes half as many updates as it delivers.
    ahead = 50
    beats: list[Heartbeat] = []
    began = time.monotonic()

    def look(_: Supervisor, beat: Heartbeat) -> None:
        beats.append(beat)
        slow = beat.delivered.get(SLOW, 0) / unroll
        done = naming_rows(run) and slow >= 2 and beat.updates > slow + ahead
        if done or time.monotonic() - began > RUN_S:
            os.kill(os.getpid(), signal.SIGINT)

    at_heartbeats(monkeypatch, look)
    assert cluster.train(config, run, False) == 130
    slow = beats[-1].delivered[SLOW] / unroll
    assert slow >= 2
    assert beats[-1].updates > slow + ahead
    row = naming_rows(run)[-1]
    assert row["health/worker_steps_per_s_slowest"] <= unroll / SLOW_S * 2
    assert row["health/worker_steps_per_s_slowest"] < row["health/worker_steps_per_s_median"]
    # Its task has fewer rows in batches than its share, and that is counted.
    assert rows(run)[-1]["replay/short_shares"] > 0


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_of_the_time_since_the_last_row_and_name_the_slowest() -> None:
    clock = Clock()
    rates = WorkerRates(clock)
    playing = {0: 0.0, 1: 0.0, 2: 0.0}
    rates.hear({0: 5, 1: 5, 2: 5})
    assert rates.metrics(playing) == {}
    clock.now = 10.0
    rates.hear({0: 105, 1: 25, 2: 205})
    assert rates.metrics(playing) == {
        "health/worker_steps_per_s_median": 10.0,
        "health/worker_steps_per_s_slowest": 2.0,
        "health/slowest_worker": 1.0,
    }
    clock.now = 20.0
    rates.hear({0: 205, 1: 325, 2: 205})
    assert rates.metrics(playing)["health/slowest_worker"] == 2.0


def test_a_worker_that_came_or_went_meanwhile_is_not_the_slowest() -> None:
    clock = Clock()
    rates = WorkerRates(clock)
    rates.hear({0: 0, 1: 0, 2: 0})
    rates.metrics({0: 0.0, 1: 0.0, 2: 0.0})
    clock.now = 10.0
    rates.hear({0: 100, 1: 0, 2: 200, 3: 1})
    # Worker 1 was replaced at second 5, and worker 3 is new.
    found = rates.metrics({0: 0.0, 1: 5.0, 2: 0.0, 3: 6.0})
    assert found["health/slowest_worker"] == 0.0
    clock.now = 20.0
    rates.hear({0: 200, 1: 50, 2: 200, 3: 40})
    # Worker 2 is gone.
    found = rates.metrics({0: 0.0, 1: 5.0, 3: 6.0})
    assert found["health/slowest_worker"] == 3.0
    # One alone is neither slow nor fast.
    assert rates.metrics({0: 0.0}) == {}


def test_several_learners_tell_of_all_their_workers() -> None:
    beats = [
        Heartbeat(3, 40, {0: 0.1}, None, {0: 40}),
        Heartbeat(3, 50, {1: 0.2}, None, {1: 50}),
    ]
    assert joined_heartbeat(beats).delivered == {0: 40, 1: 50}
