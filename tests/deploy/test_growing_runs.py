"""A run with `actors.count all` follows its cluster's cores, and its tasks go on being played."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from heartbeats import at_heartbeats
from ray.cluster_utils import Cluster
from small_runs import COUNTING_TASKS, counting_config, events, new_run, rows

from deploy import cluster
from deploy.cluster import workers
from deploy.cluster.supervisor import Supervisor
from deploy.worker_places import read_places
from repertory.config import ActorConfig, EvaluationConfig, RunConfig
from repertory.run_directory import RunDirectory

# Ray's own class leaves the sockets open that it chose its ports with.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

PATIENCE_S = 240.0


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster whose head has cores for the learner, the evaluator and one worker."""
    started = Cluster()
    add_node(started, 3)
    yield started
    started.shutdown()
    del started
    gc.collect()


def add_node(nodes: Cluster, cores: int) -> Any:
    return nodes.add_node(num_cpus=cores, object_store_memory=100 * 2**20)


def joined(nodes: Cluster, **actors: Any) -> RunConfig:
    """Return a run with a lane fewer than tasks on each worker, so that two play them all."""
    return counting_config(
        runtime="cluster",
        address=nodes.address,
        actors=ActorConfig(lanes=2, precision="fp32", **actors),
        total_steps=10**9,
        # An evaluation that never comes has its core kept for it.
        evaluation=EvaluationConfig(at_end=False, every_steps=10**9),
    )


class Story:
    """Goes on to the next chapter of a run when what the last one yielded has come true."""

    def __init__(self, chapters: Iterator[Callable[[], bool]]) -> None:
        self._chapters = chapters
        self._awaited: Callable[[], bool] = lambda: True
        self._deadline = time.monotonic()
        self.told = 0

    def __call__(self, _: Supervisor, __: Any) -> None:
        if not self._awaited():
            assert time.monotonic() < self._deadline, f"chapter {self.told} does not end"
            return
        self._deadline = time.monotonic() + PATIENCE_S
        try:
            self._awaited = next(self._chapters)
        except StopIteration:
            self._awaited = lambda: False
            # Not SIGTERM: a node that is added takes that signal for its own.
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self.told += 1


def plays(run: RunDirectory, count: int, lanes: list[int]) -> Callable[[], bool]:
    """Return whether so many workers play, and so many lanes of each task, by the newest row."""

    def look() -> bool:
        last = rows(run)[-1] if run.metrics.exists() and rows(run) else {}
        played = [last.get(f"task/{task}/lanes") for task in COUNTING_TASKS]
        return last.get("health/actors_alive") == count and played == lanes

    return look


def all_play_on(run: RunDirectory) -> Callable[[], bool]:
    """Return whether every task has steps beyond those of now."""

    def steps() -> list[float]:
        return [rows(run)[-1][f"task/{task}/steps"] for task in COUNTING_TASKS]

    before = steps()
    return lambda: all(now > then + 50 for now, then in zip(steps(), before, strict=True))


def test_a_run_grows_and_shrinks_and_grows_again_with_its_cluster(
    tmp_path: Path, nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No worker may end, unless its node does.
    config = joined(nodes, count="all", max_restarts=0)
    run = new_run(tmp_path, config)

    def chapters() -> Iterator[Callable[[], bool]]:
        yield plays(run, 1, [1, 1, 0])
        second = add_node(nodes, 2)
        yield plays(run, 3, [2, 2, 2])
        yield all_play_on(run)
        third = add_node(nodes, 1)
        yield plays(run, 4, [3, 3, 2])
        nodes.remove_node(second, allow_graceful=False)
        # Whichever two workers went: those that play on are the first two, and play all tasks.
        yield plays(run, 2, [2, 1, 1])
        yield all_play_on(run)
        add_node(nodes, 2)
        yield plays(run, 4, [3, 3, 2])
        yield all_play_on(run)
        nodes.remove_node(third, allow_graceful=False)
        yield plays(run, 3, [2, 2, 2])
        yield all_play_on(run)

    story = Story(chapters())
    at_heartbeats(monkeypatch, story)
    assert cluster.train(config, run, False) == 130
    assert story.told == 10
    assert not events(run, "worker_replaced")
    assert not events(run, "workers_waiting")
    assert len(events(run, "worker_lost")) >= 3
    assert max(event["workers"] for event in events(run, "workers_grew")) == 4
    assert all(event["reasons"] for event in events(run, "workers_shrank"))


def test_a_lost_worker_takes_the_core_of_the_highest_while_its_own_is_gone(
    tmp_path: Path, nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LATE_S", 5.0)
    config = joined(nodes, count=4)
    run = new_run(tmp_path, config)
    others = [add_node(nodes, 1), add_node(nodes, 1)]

    def chapters() -> Iterator[Callable[[], bool]]:
        # Two beside the learner on the head, and one on each of the others.
        yield plays(run, 4, [3, 3, 2])
        players = {place.node_id: place.worker for place in read_places(run.path)}
        lost = min(others, key=lambda node: players[node.node_id])
        assert players[lost.node_id] < 3
        nodes.remove_node(lost, allow_graceful=False)
        yield plays(run, 3, [2, 2, 2])
        yield all_play_on(run)

    story = Story(chapters())
    at_heartbeats(monkeypatch, story)
    assert cluster.train(config, run, False) == 130
    assert story.told == 3
    assert [event["workers"] for event in events(run, "workers_gave_way")] == [[3]]
    assert len(events(run, "worker_replaced")) == 1
