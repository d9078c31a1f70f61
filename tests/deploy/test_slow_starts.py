"""Starts and restarts of learners, as workers and GPUs see them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from heartbeats import at_heartbeats
from ray import cloudpickle
from small_runs import endless_cluster_config, events, new_run

from benchmarks.run_processes import actors_of
from deploy import cluster
from deploy.cluster import learners, worker_host, workers
from deploy.cluster.learner_host import LearnerHost
from deploy.cluster.learner_places import gpus_of_each, warn_of_missing_gpus
from deploy.cluster.supervisor import Supervisor
from deploy.cluster.worker_host import WorkerHost

# What other processes need of this test travels by value: they have no path to it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def given_gpus(patch: pytest.MonkeyPatch, count: int) -> None:
    asked = ray.cluster_resources
    patch.setattr(ray, "cluster_resources", lambda: asked() | {"GPU": float(count)})


class SlowLearnerHost(LearnerHost):
    """Takes its time to restore what was saved."""

    def _start(self, *arguments: Any) -> None:
        time.sleep(8.0)
        super()._start(*arguments)


class ImpatientWorkerHost(WorkerHost):
    """Waits for no answer so long, but for the first."""

    def __init__(self, *arguments: Any) -> None:
        worker_host.ANSWER_S = 4.0
        super().__init__(*arguments)


@pytest.mark.slow
def test_workers_outlive_a_start_that_takes_longer_than_an_answer_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", SlowLearnerHost)
    monkeypatch.setattr(workers, "WorkerHost", ImpatientWorkerHost)
    run = new_run(tmp_path, endless_cluster_config())

    def end(_: Supervisor, beat: Any) -> None:
        if beat.updates > 10:
            os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, end)
    assert cluster.train(endless_cluster_config(), run, False) == 143
    assert events(run, "worker_replaced") == []


@pytest.mark.slow
def test_a_restarted_learner_has_the_device_that_the_run_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two answers, the second would have a learner wait for what this machine has not.
    given_gpus(monkeypatch, 0)
    run = new_run(tmp_path, endless_cluster_config())
    began = time.monotonic()
    killed: list[int] = []

    def kill(_: Supervisor, beat: Any) -> None:
        if not killed and beat.updates > 10:
            killed.append(beat.updates)
            given_gpus(monkeypatch, 1)
            actors_of("LearnerHost")[0].kill()
        elif killed and beat.updates > 10:
            os.kill(os.getpid(), signal.SIGTERM)

    supervisors = at_heartbeats(monkeypatch, kill)
    assert cluster.train(endless_cluster_config(), run, False) == 143
    assert len(supervisors) == 2
    assert len(events(run, "learner_restarted")) == 1
    assert time.monotonic() - began < 280


def test_a_run_that_lost_its_gpu_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there = [{"GPU": 1.0}]
    monkeypatch.setattr(ray, "cluster_resources", lambda: there[0])
    gpus = gpus_of_each(endless_cluster_config())
    assert gpus == 1
    warn_of_missing_gpus(endless_cluster_config(), gpus)
    assert caplog.text == ""
    there[0] = {"CPU": 4.0}
    warn_of_missing_gpus(endless_cluster_config(), gpus)
    assert "the run began with 1 GPU(s) for its learner(s) and the cluster has 0 now" in caplog.text
