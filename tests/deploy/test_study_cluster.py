"""A study's jobs on the nodes of a cluster: as many as fit, lost ones again, stopped ones saved."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from deploy.signals import StopRequest
from deploy.study import cluster_places
from deploy.study.cluster_places import ClusterPlaces, JobHost
from deploy.study.ledger import Ledger
from deploy.study.needs import Needs, needs_of
from deploy.study.plan import jobs_of
from deploy.study.runner import Runner
from repertory import checkpoint
from repertory.errors import ClusterFailure
from repertory.recipes.studies import Study

# Ray's own class leaves the sockets open that it chose its ports with.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.timeout(900),
]

STUDY = Study(
    name="study-tiny",
    summary="one agent, one held-out task",
    recipe="debug-counting",
    pretraining=(("counting/0",),),
    held_out=("counting/3",),
    pretraining_steps=1200,
    finetuning_steps=200,
    settings=("--actors.count", "1", "--learner.batch_size", "2"),
)
ENDLESS = ("--environment.step_seconds", "0.05")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster of a node with two cores."""
    with pytest.MonkeyPatch.context() as variables:
        # On a busy machine a node's helper process needs longer than Ray gives it.
        variables.setenv("RAY_agent_register_timeout_ms", "300000")
        started = Cluster()
        started.add_node(
            num_cpus=2,
            memory=2 * 2**30,
            object_store_memory=100 * 2**20,
            include_dashboard=False,
        )
        yield started
        started.shutdown()
        del started
        gc.collect()


class Watched(StopRequest):
    """Is asked at every look of a runner, does something once, and may then ask to stop."""

    def __init__(self, act: Callable[[], bool], *, then_stop: bool) -> None:
        super().__init__()
        self._act, self._then_stop = act, then_stop
        self.acted = False

    def __bool__(self) -> bool:
        self.acted = self.acted or self._act()
        return self.acted and self._then_stop


def has_rows(run: Path) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.is_file() and metrics.stat().st_size > 0


def ran(
    directory: Path, nodes: Cluster, stop: Watched, *, count: int | None = None, **how: Any
) -> tuple[Ledger, list[str]]:
    """Run the study on the cluster; return its ledger and what was told."""
    settings = how.get("settings", ())
    seeds = how.get("seeds", 1)
    directory.mkdir(exist_ok=True)
    ledger = Ledger(directory, STUDY.name, jobs_of(STUDY, seeds, settings), settings)
    needs, _ = needs_of(STUDY, settings, nodes.address)
    told: list[str] = []
    with cluster_places.cluster_places(nodes.address, needs, count, directory) as places:
        assert places.fitting() == 2
        Runner(ledger, places, told.append).run(stop)
    return ledger, told


@pytest.mark.slow
def test_a_study_is_done_on_a_cluster_though_a_job_s_actor_is_killed(
    tmp_path: Path, nodes: Cluster
) -> None:
    first = tmp_path / "study" / "pretrain-1-seed1"

    def kill_its_actor() -> bool:
        if not has_rows(first):
            return False
        (job,) = jobs_in(first.parent)
        above = job.parent()
        assert above is not None
        assert "JobHost" in "".join(above.cmdline())
        os.kill(above.pid, signal.SIGKILL)
        psutil.wait_procs([job], timeout=120.0)
        assert not job.is_running()
        return True

    stop = Watched(kill_its_actor, then_stop=False)
    slow = ("--environment.step_seconds", "0.005")
    ledger, told = ran(tmp_path / "study", nodes, stop, settings=slow)
    assert stop.acted
    assert [ledger.progress[job.name].status for job in ledger.jobs] == ["done"] * 3
    assert ledger.progress["pretrain-1-seed1"].attempts == 2
    assert len([line for line in told if "pretrain-1-seed1 lost: " in line]) == 1


@pytest.mark.slow
def test_asked_to_stop_the_running_job_is_saved_and_the_one_that_waits_for_room_is_let_go(
    tmp_path: Path, nodes: Cluster
) -> None:
    directory = tmp_path / "study"
    runs_of = [directory / f"pretrain-1-seed{seed}" for seed in (1, 2, 3)]

    def two_run() -> bool:
        return sum(map(has_rows, runs_of)) == 2

    stop = Watched(two_run, then_stop=True)
    ledger, told = ran(directory, nodes, stop, count=3, seeds=3, settings=ENDLESS)
    assert len([line for line in told if line.endswith("started")]) == 3
    assert not ledger.of("running")
    assert not ledger.of("failed")
    saved = [bool(checkpoint.list_checkpoints(run / "checkpoints")) for run in runs_of]
    assert sorted(saved) == [False, True, True]
    assert not jobs_in(directory)


@pytest.mark.slow
def test_a_job_that_no_node_has_room_for_is_refused_at_once(tmp_path: Path, nodes: Cluster) -> None:
    wide = Needs(cores=8, memory=1, device="cpu")
    with (
        pytest.raises(
            ClusterFailure, match=r"takes 8 cores, .* the largest has 2 cores: add nodes"
        ),
        cluster_places.cluster_places(nodes.address, wide, None, tmp_path),
    ):
        pass
    with cluster_places.cluster_places(nodes.address, wide, 5, tmp_path) as places:
        assert isinstance(places, ClusterPlaces)
        assert places.room() == 5


def test_a_node_that_sees_another_directory_says_so_instead_of_writing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_places, "_SEEN_WITHIN_S", 0.0)
    logs = tmp_path / "study" / "logs"
    logs.mkdir(parents=True)
    log = logs / "pretrain-1-seed1.txt"
    for mark in (None, "an earlier study's"):
        if mark is not None:
            (logs / "SHARED").write_text(mark)
        code, said = JobHost().run(["recipes"], str(log), "this study's")
        assert code == 2
        assert said.startswith(f"{logs.parent} is not the study's directory on the node ")
        assert not log.exists()
    (logs / "SHARED").write_text("this study's")
    assert JobHost().run(["recipes"], str(log), "this study's") == (0, "")
    assert "quickstart" in log.read_text()


def jobs_in(study: Path) -> list[psutil.Process]:
    """Return the processes of jobs that are told to work in the study's directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(study) in process.cmdline():
                found.append(process)
    return found
