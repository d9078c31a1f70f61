"""Parts of a run on Ray that are killed or hang while it trains: the run goes on, and counts."""

from __future__ import annotations

import os
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import off_policy_runs
import psutil
import pytest
import small_runs
from heartbeats import at_heartbeats
from off_policy_runs import counting_control_config
from ray import cloudpickle
from small_runs import check_counting_column, endless_cluster_config, events, new_run, rows

from benchmarks.run_processes import actors_of
from deploy import cluster
from deploy.cluster import learners
from deploy.cluster.learner_host import LearnerHost
from deploy.cluster.supervisor import Supervisor
from repertory import checkpoint
from repertory.config import (
    ActorConfig,
    CheckpointConfig,
    CountingConfig,
    EvaluationConfig,
    ReplayConfig,
    RunConfig,
)
from repertory.errors import ClusterFailure
from repertory.types import Unroll

# What the learner's process needs of the tests travels by value: it has no path to them.
for module in (sys.modules[__name__], small_runs, off_policy_runs):
    cloudpickle.register_pickle_by_value(module)

QUIET = EvaluationConfig(at_end=False)


def cluster_config(**changes: Any) -> RunConfig:
    often = {"checkpoint": CheckpointConfig(every_updates=40)}
    return endless_cluster_config(**(often | changes))


class AccountingLearnerHost(LearnerHost):
    """A learner host that keeps a book of every delivery and checks every batch it learns from."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        taken: dict[tuple[int, int], list[int]] = defaultdict(list)
        steps = [0]
        insert, learn = self._experience.insert, self._learner.update
        measure = self._learner.metrics

        def noting(unroll: Unroll) -> None:
            before = self._experience.steps
            insert(unroll)
            if self._experience.steps > before:
                taken[unroll.worker, unroll.incarnation].append(unroll.sequence)
                steps[0] += int(unroll.valid.sum())

        def update(batch: Any, progress: float) -> None:
            for column in range(batch.lanes):
                check_counting_column(batch, column)
            learn(batch, progress)

        def metrics() -> dict[str, float]:
            row = measure()
            row["test/players"] = float(len(taken))
            row["test/twice"] = float(sum(len(own) - len(set(own)) for own in taken.values()))
            # A worker that dies takes with it what it had not delivered: nothing before that.
            row["test/missing"] = float(sum(max(own) - len(set(own)) for own in taken.values()))
            row["test/steps"] = float(steps[0])
            return row

        self._experience.insert = noting  # type: ignore[method-assign]
        self._learner.update = update  # type: ignore[method-assign]
        self._learner.metrics = metrics  # type: ignore[method-assign]


def test_all_workers_killed_at_once_are_replaced_and_every_step_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", AccountingLearnerHost)
    config = cluster_config(total_steps=40_000)
    run = new_run(tmp_path, config)
    killed: list[int] = []

    def kill_all(supervised: Supervisor, beat: Any) -> None:
        if not killed and beat.updates > 10:
            killed.extend(supervised.worker_process_ids())
            for process in killed:
                os.kill(process, signal.SIGKILL)

    at_heartbeats(monkeypatch, kill_all)
    assert cluster.train(config, run, False) == 0
    assert len(killed) == 2
    last = [row for row in rows(run) if "test/steps" in row][-1]
    assert last["health/actor_restarts"] == 2
    assert len(events(run, "worker_replaced")) == 2
    assert last["test/players"] == 4
    assert last["test/twice"] == 0
    assert last["replay/refused"] == 0
    # Ray may lose a delivery that was under way when its sender died, of each at most those
    # outstanding; the steps that came are the steps that are counted.
    assert last["test/missing"] <= 2 * config.actors.max_outstanding
    assert last["test/steps"] == last["env_steps"] >= config.total_steps
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    counters = state["experience"]["counters"].values()
    dropped = sum(one["dropped_overflow"] + one["dropped_stale"] for one in counters)
    arrived = sum(one["rows"] for one in counters)
    waiting = arrived - state["counters"]["updates"] * config.learner.batch_size - dropped
    # Queued, or in the prefetcher's hands: one batch ready and one that waits to be put there.
    assert 0 <= waiting - last["replay/rows"] <= 2 * config.learner.batch_size


def test_a_killed_learner_is_started_again_from_the_newest_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", AccountingLearnerHost)
    config = cluster_config(total_steps=10**9)
    run = new_run(tmp_path, config)
    found: list[tuple[int, Path]] = []
    players: list[int] = []

    def kill_and_damage(_: Supervisor, beat: Any) -> None:
        kept = checkpoint.list_checkpoints(run.checkpoints)
        if not found and len(kept) >= 2:
            (kept[-1] / checkpoint.ARRAYS).write_bytes(b"torn")
            found.append((checkpoint.step_of(kept[-2]), kept[-2]))
            actors_of("LearnerHost")[0].kill()
        elif found and beat.env_steps > found[0][0] + 3000:
            players.append(len(actors_of("WorkerHost")))
            os.kill(os.getpid(), signal.SIGTERM)

    supervisors = at_heartbeats(monkeypatch, kill_and_damage)
    assert cluster.train(config, run, False) == 143
    assert len(supervisors) == 2
    (restarted,) = events(run, "learner_restarted")
    assert restarted["checkpoint"] == found[0][1].name
    assert "learner died" in restarted["reason"]
    assert not events(run, "failed")
    recorded = [row for row in rows(run) if "test/steps" in row]
    last = recorded[-1]
    assert last["health/learner_restarts"] == 1
    # What came since the restart, on top of what the checkpoint had counted.
    assert last["env_steps"] == found[0][0] + last["test/steps"]
    assert last["test/twice"] == 0
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    assert state["counters"]["env_steps"] > found[0][0]
    assert state["counters"]["incarnation"] > 0
    # The old workers are gone.
    assert players[0] == 2


@pytest.mark.slow
def test_a_learner_that_hangs_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far more than an answer takes, also where all cores are busy.
    monkeypatch.setattr(learners, "ANSWER_S", 20.0)
    # No checkpoint is asked for while it hangs: that has a deadline of its own.
    config = cluster_config(total_steps=10**9, checkpoint=CheckpointConfig(every_s=600.0))
    run = new_run(tmp_path, config)
    frozen: list[psutil.Process] = []

    def freeze(_: Supervisor, beat: Any) -> None:
        if not frozen and beat.updates > 10:
            frozen.append(actors_of("LearnerHost")[0])
            frozen[0].suspend()
        elif frozen and beat.updates > 10:
            os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, freeze)
    assert cluster.train(config, run, False) == 143
    (restarted,) = events(run, "learner_restarted")
    assert "did not answer within 20 s" in restarted["reason"]
    assert not frozen[0].is_running()


@pytest.mark.slow
def test_a_learner_that_keeps_dying_without_progress_ends_the_run_with_the_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster_config(total_steps=10**9, checkpoint=CheckpointConfig(every_s=600.0))
    config = config.model_copy(
        update={"learner": config.learner.model_copy(update={"max_restarts": 1})}
    )
    run = new_run(tmp_path, config)
    killed: list[Supervisor] = []

    def kill_each(supervised: Supervisor, _: Any) -> None:
        if supervised not in killed:
            killed.append(supervised)
            actors_of("LearnerHost")[0].kill()

    at_heartbeats(monkeypatch, kill_each)
    with pytest.raises(ClusterFailure, match=r"learner died.*--resume"):
        cluster.train(config, run, False)
    assert len(killed) == 2
    assert [event["checkpoint"] for event in events(run, "learner_restarted")] == ["the beginning"]


@pytest.mark.slow
@pytest.mark.parametrize("saved", [False, True])
def test_a_killed_replay_is_started_again_from_the_checkpoint_or_filled_anew(
    saved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = counting_control_config(
        runtime="cluster",
        total_steps=10**9,
        evaluation=QUIET,
        checkpoint=CheckpointConfig(every_updates=40),
        replay=ReplayConfig(
            capacity=600, samples_per_insert=0.5, slack=2.0, place="process", saved=saved
        ),
    )
    run = new_run(tmp_path, config)
    killed: list[int] = []

    def kill_replay(_: Supervisor, beat: Any) -> None:
        if not killed and checkpoint.list_checkpoints(run.checkpoints):
            killed.append(beat.updates)
            actors_of("ReplayHost")[0].kill()
        elif killed and beat.updates > killed[0] + 20:
            os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, kill_replay)
    assert cluster.train(config, run, False) == 143
    (restarted,) = events(run, "learner_restarted")
    assert "replay" in restarted["reason"]
    last = [row for row in rows(run) if "replay/samples_per_insert" in row][-1]
    assert last["health/learner_restarts"] == 1
    # The published ratio holds across the loss, whether the contents came back or not.
    assert last["replay/samples_per_insert"] == pytest.approx(0.5, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hang", "hang_holding_gil"])
def test_a_hung_environment_is_killed_with_its_worker_in_time_and_the_run_goes_on(
    how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout_s = 3.0
    environment = CountingConfig(fail_task="counting/1", fail_step=400, fail_how=how)
    config = cluster_config(
        total_steps=10**9,
        environment=environment,
        actors=ActorConfig(count=2, lanes=6, precision="fp32", timeout_s=timeout_s),
    )
    run = new_run(tmp_path, config)
    seen: set[psutil.Process] = set()
    playing: list[int] = []

    def end(_: Supervisor, beat: Any) -> None:
        there = actors_of("WorkerHost")
        seen.update(there)
        if len(events(run, "worker_replaced")) >= 2 and beat.env_steps > 6000:
            playing.append(len(there))
            os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, end)
    assert cluster.train(config, run, False) == 143
    reasons = [event["reason"] for event in events(run, "worker_replaced")]
    silent = [float(reason.removeprefix("silent for ").removesuffix(" s")) for reason in reasons]
    assert all(timeout_s <= seconds <= timeout_s + 5.0 for seconds in silent)
    assert len(seen) >= 4
    # Those that hung are gone, and not only given up.
    assert playing[0] <= 2
    assert not any(process.is_running() for process in seen)


@pytest.mark.slow
def test_on_ray_a_given_up_task_leaves_the_run_going_and_is_told_of(tmp_path: Path) -> None:
    environment = CountingConfig(fail_task="counting/1", fail_step=200, step_seconds=2e-5)
    config = cluster_config(total_steps=20_000, environment=environment)
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    last = [row for row in rows(run) if "health/tasks_given_up" in row][-1]
    assert last["health/tasks_given_up"] == 1
    assert last["task/counting/1/steps"] < last["task/counting/0/steps"] / 3
    assert sum(event["gave_up"] for event in events(run, "environment_failed")) == 2
    assert last["replay/short_shares"] == 0
