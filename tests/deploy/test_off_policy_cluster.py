"""Off-policy runs on Ray: rows that were played, faults, resumes with other workers, the ratio."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import off_policy_runs
import psutil
import pytest
import small_runs
from heartbeats import at_heartbeats
from off_policy_runs import CheckedLearner, counting_control_config
from ray import cloudpickle
from small_runs import new_run, rows

from deploy import cluster
from deploy.cluster import learners
from deploy.cluster.learner_host import LearnerHost
from deploy.cluster.supervisor import Supervisor
from repertory import checkpoint
from repertory.config import ActorConfig, RunConfig
from repertory.errors import ClusterFailure
from repertory.run_directory import RunDirectory

# What the learner's process needs of the tests travels by value: it has no path to them.
for module in (sys.modules[__name__], off_policy_runs, small_runs):
    cloudpickle.register_pickle_by_value(module)


class CheckingLearnerHost(LearnerHost):
    """A learner host that checks every batch it learns from."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._checked = CheckedLearner(self._learner)


def cluster_config(place: str, **changes: Any) -> RunConfig:
    config = counting_control_config(runtime="cluster", **changes)
    return config.model_copy(update={"replay": config.replay.model_copy(update={"place": place})})


def learned(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows written after learning began."""
    return [row for row in rows(run) if "test/rows_checked" in row]


def assert_lawful(run: RunDirectory, config: RunConfig, updates: int) -> None:
    """Check a finished run's last row: every batch was checked, and the ratio held."""
    last = learned(run)[-1]
    assert last["test/rows_checked"] == updates * config.learner.batch_size
    assert last["test/windows_checked"] > 0
    assert last["replay/refused"] == 0
    # Actors may be ahead by the slack of two updates and by their unrolls under way: six more.
    assert last["replay/samples_per_insert"] == pytest.approx(
        config.replay.samples_per_insert, rel=0.05
    )


def test_a_killed_worker_is_replaced_and_another_number_of_workers_goes_on_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", CheckingLearnerHost)
    config = cluster_config("learner", total_steps=12_000)
    run = new_run(tmp_path, config)
    killed: list[int] = []

    def kill_one(supervised: Supervisor, beat: Any) -> None:
        if not killed and beat.updates > 10:
            killed.append(supervised.worker_process_ids()[0])
            os.kill(killed[0], signal.SIGKILL)

    with monkeypatch.context() as patch:
        at_heartbeats(patch, kill_one)
        assert cluster.train(config, run, False) == 0
    assert killed
    before, _, _ = checkpoint.load_latest(run.checkpoints)
    assert_lawful(run, config, before["counters"]["updates"])
    assert learned(run)[-1]["replay/stream_breaks"] <= 1
    first = rows(run)
    assert learned(run)[-1]["health/actor_restarts"] == 1
    assert '"worker_replaced"' in run.events.read_text()

    more = config.model_copy(
        update={
            "actors": ActorConfig(count=3, lanes=3, precision="fp32"),
            "total_steps": before["counters"]["env_steps"] + 4000,
        }
    )
    assert cluster.train(more, RunDirectory.open(run.path), True) == 0
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    made = after["counters"]["updates"] - before["counters"]["updates"]
    # The replay fills anew, then the ratio holds: neither a burst nor a standstill.
    played = after["counters"]["env_steps"] - before["counters"]["env_steps"]
    due = (played - 60) * config.replay.samples_per_insert / config.learner.batch_size
    assert made == pytest.approx(due, rel=0.05)
    later = rows(run)[len(first) :]
    for name in ("env_steps", "updates", "wall_s"):
        values = [row[name] for row in first + later]
        assert values == sorted(values), name
    assert later[0]["env_steps"] >= before["counters"]["env_steps"]
    # Returns are averaged over the latest episodes: the window came along.
    for task, length in (("counting/0", 7), ("counting/1", 8), ("counting/2", 9)):
        assert later[0][f"task/{task}/return"] == length * (length - 1) / 2


def test_a_replay_of_its_own_serves_whole_rows_and_its_death_ends_a_run_that_restarts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", CheckingLearnerHost)
    config = cluster_config("process", total_steps=10**9)
    config = config.model_copy(
        update={
            "checkpoint": config.checkpoint.model_copy(update={"every_updates": 50}),
            "learner": config.learner.model_copy(update={"max_restarts": 0}),
        }
    )
    run = new_run(tmp_path, config)
    killed: list[float] = []

    def kill_replay(_: Supervisor, __: Any) -> None:
        if not killed and list(run.checkpoints.glob("step_*")):
            (process,) = [
                child
                for child in psutil.Process().children(recursive=True)
                if "ray::ReplayHost" in " ".join(child.cmdline())
            ]
            process.kill()
            killed.append(time.monotonic())

    with monkeypatch.context() as patch:
        at_heartbeats(patch, kill_replay)
        with pytest.raises(ClusterFailure, match=r"the replay's process died.*--resume") as caught:
            cluster.train(config, run, False)
    assert time.monotonic() - killed[0] < 60
    assert caught.value.exit_code == 5
    assert str(run.path) in str(caught.value)
    assert "replay" in run.events.read_text()
    before, _, _ = checkpoint.load_latest(run.checkpoints)
    more = config.model_copy(update={"total_steps": before["counters"]["env_steps"] + 6000})
    assert cluster.train(more, RunDirectory.open(run.path), True) == 0
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    assert_lawful(run, more, after["counters"]["updates"] - before["counters"]["updates"])
    assert learned(run)[-1]["test/windows_cut"] == 0
