"""What Ray says of parts that are gone, as it said it, and what the run makes of it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from heartbeats import at_heartbeats
from ray import cloudpickle
from small_runs import counting_config, endless_cluster_config, events, new_run

from deploy import cluster
from deploy.cluster import workers
from deploy.cluster.faults import End, PartLost, in_a_line, why_ended
from deploy.cluster.learners import Learners
from deploy.cluster.replay_host import RemoteExperience, ReplayLost
from deploy.cluster.supervisor import Supervisor
from deploy.cluster.worker_door import Published
from deploy.cluster.worker_host import WorkerHost
from repertory.config import ActorConfig
from repertory.types import Weights

# What the worker's process needs of this test travels by value: it has no path to it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

OUT_OF_MEMORY = """\
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.5, \
ID: 7e1fc581ebc7da9758638b262fe1c39279fef3414656a2fb8643b062) was 22.41GB used / 23.54GB limit \
(0.951997)
OOM kill reason: Memory usage 24062000000B exceeded threshold of 24012688688B (95.0% of \
25276514304B limit)
Ray killed 1 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Actor(fefbc3de092d6e39fb971f2301000000): job ID=01000000, lease ID=00, task \
name=WorkerHost.__init__, required resources={CPU: 1}, pid=25695, actual memory used=0.21GB, \
worker ID=63ae47b4d501e391ece525b86dc669d5c28d0d4e0b5ac53e4c58752c)
]
To see more information about memory usage on this node, use `ray logs raylet.out -ip 10.0.0.5`
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
21284\t9.12\tray::LearnerHost
20608\t0.34\t/opt/venv/bin/python3 -c from deploy.cli import main; main() train quickstart --res...
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/."""
SHORT = (
    "killed by Ray because node 10.0.0.5 was short of memory (22.4 of 23.5 GB); "
    "most had ray::LearnerHost, 9.1 GB"
)
DIED = """\
The actor died unexpectedly before finishing this task.
\tclass_name: WorkerHost
\tactor_id: fefbc3de092d6e39fb971f2301000000
\tpid: 25695
\tnamespace: 1c2a0d0c-7c1b-4c3c-9d37-3a1e8a3f1c55
\tip: 10.0.0.5
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: Worker unexpectedly exits with a connection error code 2. End of file. There are some \
potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory \
usage. (2) ray stop --force is called."""


def died() -> ray.exceptions.ActorDiedError:
    error = ray.exceptions.ActorDiedError()
    error.error_msg = DIED
    return error


def out_of_memory() -> ray.exceptions.OutOfMemoryError:
    return ray.exceptions.OutOfMemoryError(OUT_OF_MEMORY)


def raising(patch: pytest.MonkeyPatch, error: Exception) -> None:
    def get(*_: Any, **__: Any) -> Any:
        raise error

    patch.setattr(ray, "get", get)


GONE = [
    out_of_memory(),
    died(),
    ray.exceptions.ObjectLostError("ab" * 28, None, ""),
    ray.exceptions.NodeDiedError("its node died"),
]
NAMES = [type(error).__name__ for error in GONE]


@pytest.mark.parametrize("error", GONE, ids=NAMES)
def test_however_ray_calls_it_a_learner_that_is_gone_is_lost_and_not_the_end(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    learners = Learners(counting_config(runtime="cluster"), "resume it", gpus=0)
    raising(monkeypatch, error)
    with pytest.raises(PartLost, match=r"the learner died when asked for a sign.*; resume it"):
        learners.heartbeat()


@pytest.mark.parametrize("error", GONE, ids=NAMES)
def test_however_ray_calls_it_a_replay_that_is_gone_is_lost_and_not_the_end(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = SimpleNamespace(remote=lambda *_: None)
    subject = RemoteExperience(SimpleNamespace(report=call, publish=call, open=call))
    raising(monkeypatch, error)
    published = Published(Weights(0, np.zeros(0, np.float32)), [])
    for asked in (subject.metrics, subject.open, lambda: subject.publish(published)):
        with pytest.raises(ReplayLost, match="the replay's process died before it answered"):
            asked()


def test_what_the_replays_own_code_raised_is_not_taken_for_its_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = RemoteExperience(SimpleNamespace(report=SimpleNamespace(remote=lambda: None)))
    own = ray.exceptions.RayTaskError("report", "a traceback", ValueError("a row is torn"))
    raising(monkeypatch, own)
    with pytest.raises(ray.exceptions.RayTaskError):
        subject.metrics()


def test_a_worker_that_ray_killed_for_want_of_memory_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raising(monkeypatch, out_of_memory())
    assert why_ended(None) == End(SHORT, for_memory=True)
    # Should the next Ray put it otherwise, the cause at least is known.
    other = ray.exceptions.OutOfMemoryError("Workers (tasks / actors) were killed: low memory")
    assert in_a_line(other) == "killed by Ray because its node was short of memory"


def test_of_a_worker_that_was_killed_the_line_is_told_that_says_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raising(monkeypatch, died())
    ended = why_ended(None)
    assert not ended.for_memory
    assert ended.reason.startswith("The actor is dead because its worker process has died. ")
    assert "killed by SIGKILL by OOM killer" in ended.reason
    # Ray's own default, where it knows nothing.
    raising(monkeypatch, ray.exceptions.ActorDiedError())
    assert why_ended(None).reason == "The actor died unexpectedly before finishing this task."


def test_a_worker_whose_learner_is_gone_is_not_said_to_have_been_short_of_memory_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raising(monkeypatch, ray.exceptions.RayTaskError("run", "a traceback", out_of_memory()))
    assert why_ended(None) == End(f"no answer from the learner: {SHORT}")


class GreedyWorkerHost(WorkerHost):
    """The first of them takes memory without end."""

    def _run(self) -> None:
        taken: list[bytes] = []
        while not self._incarnation:
            taken.append(b"x" * 2**24)
            self._stopping.wait(0.01)
        super()._run()


@pytest.mark.slow
def test_a_worker_that_takes_memory_without_end_is_killed_by_ray_replaced_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()
    # Room for the run's own processes, which need some 1.5 GiB, and for what others take meanwhile.
    limit = (memory.total - memory.available + 3.5 * 2**30) / memory.total
    if limit > 0.9:
        pytest.skip("the limit is of the whole machine, and that has less than 3.5 GiB to spare")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{limit:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.setattr(workers, "WorkerHost", GreedyWorkerHost)
    config = endless_cluster_config(actors=ActorConfig(count=1, lanes=6, precision="fp32"))
    run = new_run(tmp_path, config)

    def end(_: Supervisor, beat: Any) -> None:
        if events(run, "worker_replaced") and beat.updates > 10:
            os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, end)
    assert cluster.train(config, run, False) == 143
    for event in events(run, "worker_replaced"):
        assert event["reason"].startswith("killed by Ray because node ")
        assert " was short of memory (" in event["reason"]
