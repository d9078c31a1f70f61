"""A worker may end so often by itself; what goes with its node does not count."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import ray
from small_runs import counting_config

from deploy.cluster import worker_ends
from deploy.cluster.faults import End
from deploy.cluster.worker_ends import WorkerEnds
from repertory.config import ActorConfig
from repertory.errors import ClusterFailure


def ends(address: str = "", allowed: int = 1) -> WorkerEnds:
    actors = ActorConfig(max_restarts=allowed)
    return WorkerEnds(counting_config(runtime="cluster", address=address, actors=actors))


def nodes(patch: pytest.MonkeyPatch, **alive: bool) -> None:
    found = [{"NodeID": name, "Alive": lives} for name, lives in alive.items()]
    patch.setattr(ray, "nodes", lambda: found)


def test_one_worker_too_often_ends_the_run_and_many_workers_once_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes(monkeypatch, here=True)
    noted = ends()
    for worker in range(5):
        noted.note(worker, "here", End("killed"))
        noted.check()
    assert noted.count == 5
    noted.note(3, "here", End("killed again"))
    with pytest.raises(ClusterFailure, match=r"worker 3 was replaced 1 times .*\(killed again\)"):
        noted.check()


def test_what_went_with_its_node_is_forgotten_though_the_node_is_missed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes(monkeypatch, here=True, there=True)
    noted = ends("head:6379")
    for _ in range(4):
        noted.note(0, "there", End("unavailable"))
        noted.check()
    nodes(monkeypatch, here=True, there=False)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + worker_ends.NODE_S)
    monkeypatch.setattr(worker_ends, "time", later)
    noted.check()
    # One end of its own is still allowed.
    noted.note(0, "here", End("killed"))
    noted.check()
    assert noted.count == 5


def test_after_some_time_a_node_that_lives_on_is_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, here=True)
    monkeypatch.setattr(worker_ends, "NODE_S", 0.0)
    noted = ends("head:6379", allowed=0)
    noted.note(0, "here", End("silent"))
    with pytest.raises(ClusterFailure, match=r"worker 0 was replaced 0 times"):
        noted.check()
    unplaced = ends("head:6379", allowed=0)
    unplaced.note(0, "", End("cannot be built"))
    with pytest.raises(ClusterFailure, match="cannot be built"):
        unplaced.check()


def test_deaths_for_want_of_memory_are_forgotten_after_an_hour_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes(monkeypatch, here=True)
    now = [0.0]
    monkeypatch.setattr(worker_ends, "time", SimpleNamespace(monotonic=lambda: now[0]))
    noted = ends(allowed=2)
    noted.note(0, "here", End("killed"))
    for _ in range(50):
        # Ray kills the youngest, whoever has taken the memory.
        noted.note(0, "here", End("short of memory", for_memory=True))
        noted.check()
        now[0] += worker_ends.MEMORY_S + 1
    assert noted.count == 51
    noted.note(0, "here", End("killed"))
    noted.check()
    # On a node that is too small it happens again and again.
    noted.note(0, "here", End("short of memory", for_memory=True))
    with pytest.raises(ClusterFailure, match=r"worker 0 was replaced 2 times .*\(short of memory"):
        noted.check()
