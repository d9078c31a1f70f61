"""More workers than the cluster has cores for: a run begins with some, the rest start in turn."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from heartbeats import at_heartbeats
from ray.cluster_utils import Cluster
from small_runs import counting_config, events, new_run, rows

from deploy import cluster
from deploy.cluster.supervisor import Supervisor
from repertory.config import ActorConfig, EvaluationConfig
from repertory.errors import ClusterFailure

# Ray's own class leaves the sockets open that it chose its ports with.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster without nodes."""
    started = Cluster()
    yield started
    started.shutdown()
    del started
    gc.collect()


def start_head(nodes: Cluster, cores: int) -> None:
    nodes.add_node(num_cpus=cores, object_store_memory=100 * 2**20)


def test_workers_beyond_the_cores_wait_and_start_when_a_node_joins(
    tmp_path: Path, nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_head(nodes, 3)
    # A worker that waits for longer than that must not be taken for a silent one.
    actors = ActorConfig(count=4, lanes=6, precision="fp32", timeout_s=8.0)
    config = counting_config(
        runtime="cluster",
        address=nodes.address,
        actors=actors,
        total_steps=10**9,
        evaluation=EvaluationConfig(at_end=False),
    )
    run = new_run(tmp_path, config)
    joined: list[bool] = []

    def add_a_node(_: Supervisor, beat: Any) -> None:
        told = events(run, "workers_waiting")
        if not joined and told and beat.updates > 5:
            # Learner and evaluation leave the third core, and the evaluator is not there yet.
            assert told[-1]["waiting"] == 2
            assert len(beat.silent_s) == 2
            nodes.add_node(num_cpus=2, object_store_memory=100 * 2**20)
            joined.append(True)
        if joined and len(beat.silent_s) == 4 and rows(run)[-1]["health/actors_waiting"] == 0:
            # Not SIGTERM: a node that is added takes that signal for its own.
            os.kill(os.getpid(), signal.SIGINT)

    at_heartbeats(monkeypatch, add_a_node)
    assert cluster.train(config, run, False) == 130
    told = [event["waiting"] for event in events(run, "workers_waiting")]
    assert told[0] == 2
    assert told[-1] == 0
    assert not events(run, "worker_replaced")
    assert rows(run)[-1]["health/actors_alive"] == 4
    # A run that joins a cluster tells how busy its nodes are, those that join later too.
    read = {key.split("/")[1] for row in rows(run) for key in row if key.startswith("node/")}
    assert len(read) >= 2


def test_a_cluster_without_a_core_for_even_one_worker_is_refused(
    tmp_path: Path, nodes: Cluster
) -> None:
    start_head(nodes, 2)
    config = counting_config(runtime="cluster", address=nodes.address)
    with pytest.raises(ClusterFailure, match="1 worker, the learner and the evaluator need 3"):
        cluster.train(config, new_run(tmp_path, config), False)
    assert not ray.is_initialized()
