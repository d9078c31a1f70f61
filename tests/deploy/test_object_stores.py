"""Ray's object stores: what a run needs of them, and that it stays below that in a small one."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from heartbeats import at_heartbeats
from off_policy_runs import counting_control_config
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from ray.cluster_utils import Cluster
from small_runs import atari_config, new_run

from deploy import cluster
from deploy.cluster.messages import Heartbeat
from deploy.cluster.object_stores import (
    FULL,
    object_store_bytes,
    queued_bytes,
    unroll_bytes,
    warn_of_small_stores,
    worker_bytes,
)
from deploy.cluster.supervisor import Supervisor
from repertory.config import ActorConfig, EvaluationConfig, LearnerConfig, RunConfig

MIB = 2**20
STORE = 100 * MIB
RUN_S = 900.0


def atari_run(**changes: Any) -> RunConfig:
    """Two workers whose unrolls of 2.6 MiB count in a store of 100."""
    settings: dict[str, Any] = {
        "runtime": "cluster",
        "actors": ActorConfig(count=2, lanes=16),
        "learner": LearnerConfig(batch_size=16, unroll_length=20, compile="off"),
        "evaluation": EvaluationConfig(at_end=False),
        "total_steps": 10**9,
    }
    return atari_config(**(settings | changes))


# Ray's own class leaves the sockets open that it chose its ports with.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_run_that_joins_a_small_store_writes_nothing_to_the_disk_and_stays_below_its_bounds(
    tmp_path: Path,
    small_node: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = atari_run(address=small_node.address)
    # Otherwise the run would have no use for a bound.
    needed = 2 * worker_bytes(config) + queued_bytes(config)
    assert needed < FULL * STORE < 100 * unroll_bytes(config)
    run = new_run(tmp_path, config)
    state = get_state_from_address(small_node.address)
    used: list[int] = []
    written: list[int] = []
    # More has come by then than the store holds: what is learned from must have made room.
    steps = 1.2 * STORE / unroll_bytes(config) * config.actors.lanes * config.learner.unroll_length
    came: list[int] = []
    began = time.monotonic()

    def look(_: Supervisor, beat: Heartbeat) -> None:
        store = get_memory_info_reply(state).store_stats
        used.append(store.object_store_bytes_used)
        written.append(store.spilled_bytes_total + store.object_store_bytes_fallback)
        came.append(beat.env_steps)
        if beat.env_steps > steps or time.monotonic() - began > RUN_S:
            os.kill(os.getpid(), signal.SIGINT)

    at_heartbeats(monkeypatch, look)
    assert cluster.train(config, run, False) == 130
    assert came[-1] > steps
    assert max(used) > unroll_bytes(config)
    assert max(used) < FULL * STORE
    assert max(written) == 0
    assert "object stores" not in caplog.text


@pytest.fixture
def small_node() -> Iterator[Cluster]:
    """A cluster of one node with a store of 100 MiB."""
    started = Cluster()
    started.add_node(num_cpus=4, object_store_memory=STORE)
    yield started
    started.shutdown()
    del started
    gc.collect()


def node(address: str, store: float, cores: float = 8.0, **labels: str) -> dict[str, Any]:
    """A node as Ray tells of it."""
    resources = {"CPU": cores, "object_store_memory": store}
    return {
        "Alive": True,
        "NodeManagerAddress": address,
        "Resources": resources,
        "Labels": labels,
    }


def warned(
    config: RunConfig,
    nodes: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> list[str]:
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_small_stores(config)
    return caplog.messages


def test_only_nodes_whose_stores_are_too_small_for_their_part_are_named_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = atari_run(address="auto", actors=ActorConfig(count=8, lanes=16))
    one, queued = worker_bytes(config), queued_bytes(config)
    enough = (8 * one + queued) / FULL + 1
    learner = node("10.0.0.1", enough, role="learner")
    # Of two cores no more than two workers can come, which the learner's part does not touch.
    two = node("10.0.0.2", 2 * one / FULL + 1, cores=2.0, role="actor")
    assert warned(config, [learner, two], monkeypatch, caplog) == []
    short = node("10.0.0.1", enough - 2, role="learner")
    (said,) = warned(config, [short, two], monkeypatch, caplog)
    assert "10.0.0.1 has" in said
    assert "10.0.0.2" not in said
    assert "--object-store-memory" in said
    few = node("10.0.0.3", 2 * one / FULL - 2, cores=2.0, role="actor")
    (said,) = warned(config, [short, two, few], monkeypatch, caplog)
    assert "10.0.0.1 has" in said
    assert "; 10.0.0.3 has" in said
    # A node that is gone needs nothing.
    assert warned(config, [learner, few | {"Alive": False}], monkeypatch, caplog) == []


def test_without_labels_the_heads_node_is_the_learners(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = atari_run(address="auto", actors=ActorConfig(count=8, lanes=16))
    enough = (8 * worker_bytes(config) + queued_bytes(config)) / FULL + 1
    head = node("10.0.0.1", enough - 2)
    head["Resources"]["node:__internal_head__"] = 1.0
    other = node("10.0.0.2", 8 * worker_bytes(config) / FULL + 1)
    (said,) = warned(config, [head, other], monkeypatch, caplog)
    assert "10.0.0.1" in said
    assert "10.0.0.2" not in said


def test_a_replay_that_is_saved_goes_through_the_learners_store(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = counting_control_config(runtime="cluster", address="auto")
    large = config.replay.model_copy(update={"capacity": 3_000_000})
    kept = config.model_copy(update={"replay": large.model_copy(update={"saved": True})})
    lost = config.model_copy(update={"replay": large.model_copy(update={"saved": False})})
    nodes = [node("10.0.0.1", STORE, role="learner")]
    assert warned(lost, nodes, monkeypatch, caplog) == []
    assert len(warned(kept, nodes, monkeypatch, caplog)) == 1


def test_a_store_of_our_own_holds_twice_what_the_warning_counts() -> None:
    # Enough of them to be above the least there is, and below what this machine can spare.
    config = RunConfig(actors=ActorConfig(count=12, lanes=32))
    pinned = 12 * worker_bytes(config) + queued_bytes(config)
    assert object_store_bytes(config) == 2 * pinned
