"""The Ray runtime: counting data flow, a killed worker, a killed learner, stop and resume."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import small_runs
from heartbeats import at_heartbeats
from ray import cloudpickle
from small_runs import assert_same, check_counting_column, counting_config, new_run, rows

from deploy import cluster
from deploy.cluster import evaluations, learners, supervisor
from deploy.cluster.learner_host import LearnerHost
from deploy.cluster.supervisor import Supervisor
from deploy.cluster.worker_host import EvaluatorHost
from repertory import checkpoint
from repertory.config import ActorConfig, CountingConfig, EvaluationConfig, RunConfig
from repertory.errors import ClusterFailure, EnvironmentFailure
from repertory.run_directory import RunDirectory
from repertory.types import Unroll

# The hosts that tests derive here, and what they call, must reach processes that have no path to
# the tests: they travel by value.
for module in (sys.modules[__name__], small_runs):
    cloudpickle.register_pickle_by_value(module)


def cluster_config(**changes: Any) -> RunConfig:
    return counting_config(runtime="cluster", **changes)


def no_ray_processes() -> bool:
    import psutil

    mine = psutil.Process().children(recursive=True)
    return not any("raylet" in p.name() or "gcs_server" in p.name() for p in mine)


class CheckingLearnerHost(LearnerHost):
    """A learner host that checks the content of every batch it learns from."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._columns_checked = 0
        learn, measure = self._learner.update, self._learner.metrics

        def update(batch: Unroll, progress: float) -> None:
            for column in range(batch.lanes):
                check_counting_column(batch, column)
                self._columns_checked += 1
            learn(batch, progress)

        def metrics() -> dict[str, float]:
            return measure() | {"test/columns_checked": float(self._columns_checked)}

        self._learner.update = update  # type: ignore[method-assign]
        self._learner.metrics = metrics  # type: ignore[method-assign]


def test_a_run_learns_from_whole_unmixed_rows_and_a_killed_worker_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", CheckingLearnerHost)
    config = cluster_config(total_steps=30_000, environment=CountingConfig(step_seconds=2e-5))
    run = new_run(tmp_path, config)
    killed: list[int] = []

    def kill_one(supervised: Supervisor, beat: Any) -> None:
        if not killed and beat.updates > 10:
            killed.append(supervised.worker_process_ids()[0])
            os.kill(killed[0], signal.SIGKILL)

    at_heartbeats(monkeypatch, kill_one)
    assert cluster.train(config, run, False) == 0
    assert killed
    last = [row for row in rows(run) if "learner/policy_loss" in row][-1]
    assert last["health/actor_restarts"] == 1
    assert last["env_steps"] >= config.total_steps
    for task, length in (("counting/0", 7), ("counting/1", 8), ("counting/2", 9)):
        assert last[f"task/{task}/return"] == length * (length - 1) / 2
    assert '"worker_replaced"' in run.events.read_text()
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    counters = state["experience"]["counters"]
    taken = state["counters"]["updates"] * config.learner.batch_size
    dropped = sum(c["dropped_overflow"] + c["dropped_stale"] for c in counters.values())
    arrived = sum(c["rows"] for c in counters.values())
    # What arrived was learned from, dropped and counted, or is still queued or in the prefetcher's
    # hands (one batch ready and one that waits to be put there).
    waiting = arrived - taken - dropped
    assert 0 <= waiting - last["replay/rows"] <= 2 * config.learner.batch_size
    assert last["replay/refused"] == 0
    assert last["test/columns_checked"] == taken
    evaluations = [row for row in rows(run) if "eval/greedy/task/counting/1/return" in row]
    assert len(evaluations) == 1
    assert no_ray_processes()


def test_a_killed_learner_ends_a_run_that_restarts_none_and_the_run_resumes_with_other_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster_config(total_steps=10**9)
    config = config.model_copy(
        update={
            "checkpoint": config.checkpoint.model_copy(update={"every_updates": 20}),
            "learner": config.learner.model_copy(update={"max_restarts": 0}),
        }
    )
    run = new_run(tmp_path, config)
    killed: list[float] = []

    def kill_learner(supervised: Supervisor, _: Any) -> None:
        if not killed and list(run.checkpoints.glob("step_*")):
            import ray

            ray.kill(supervised.learner_actor())
            killed.append(time.monotonic())

    with monkeypatch.context() as patch:
        at_heartbeats(patch, kill_learner)
        with pytest.raises(ClusterFailure, match=r"learner died.*--resume"):
            cluster.train(config, run, False)
    assert time.monotonic() - killed[0] < 60
    before, _, _ = checkpoint.load_latest(run.checkpoints)
    assert before["counters"]["updates"] >= 20
    # Resumed with nothing left to do, it is what it was: weights, optimiser, counters.
    spent = config.model_copy(update={"total_steps": before["counters"]["env_steps"]})
    spent = spent.model_copy(update={"evaluation": EvaluationConfig(at_end=False)})
    assert cluster.train(spent, RunDirectory.open(run.path), True) == 0
    untouched, _, _ = checkpoint.load_latest(run.checkpoints)
    for part in before["learner"].keys() - {"metrics"}:
        assert_same(untouched["learner"][part], before["learner"][part], part)
    assert_same(untouched["weights"], before["weights"], "weights")
    assert untouched["counters"]["updates"] == before["counters"]["updates"]
    resumed = config.model_copy(
        update={
            "actors": ActorConfig(count=1, lanes=6, precision="fp32"),
            "total_steps": before["counters"]["env_steps"] + 2000,
        }
    )
    assert cluster.train(resumed, RunDirectory.open(run.path), True) == 0
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    assert after["counters"]["env_steps"] >= resumed.total_steps
    assert after["counters"]["updates"] > before["counters"]["updates"]
    assert after["counters"]["incarnation"] > before["counters"]["incarnation"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_checkpoint_within_seconds(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster_config(total_steps=10**9)
    run = new_run(tmp_path, config)
    sent: list[float] = []

    def terminate(_: Supervisor, beat: Any) -> None:
        if not sent and beat.updates > 5:
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)

    at_heartbeats(monkeypatch, terminate)
    assert cluster.train(config, run, False) == 128 + number
    assert time.monotonic() - sent[0] < 20
    assert checkpoint.load_latest(run.checkpoints)[0]["counters"]["updates"] > 5


def test_an_environment_that_raises_ends_a_run_that_tolerates_none(tmp_path: Path) -> None:
    environment = CountingConfig(fail_task="counting/1", fail_step=12)
    actors = ActorConfig(count=2, lanes=6, precision="fp32", environment_failures=0)
    config = cluster_config(environment=environment, total_steps=10**9, actors=actors)
    run = new_run(tmp_path, config)
    with pytest.raises(EnvironmentFailure, match="counting/1"):
        cluster.train(config, run, False)


def test_a_worker_that_falls_silent_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster_config(total_steps=10**9, actors=ActorConfig(count=1, lanes=6, timeout_s=3.0))
    run = new_run(tmp_path, config)
    stopped: list[int] = []
    done = threading.Event()

    def freeze(supervised: Supervisor, beat: Any) -> None:
        if not stopped and beat.updates > 10:
            stopped.append(supervised.worker_process_ids()[0])
            os.kill(stopped[0], signal.SIGSTOP)
        events = run.events.read_text() if run.events.exists() else ""
        heard_again = beat.silent_s.get(0, 99.0) < 1.0
        if "worker_replaced" in events and heard_again and not done.is_set():
            done.set()
            os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, freeze)
    assert cluster.train(config, run, False) == 143
    assert done.is_set()
    assert "silent for" in run.events.read_text()


def test_a_hung_evaluation_is_given_up_and_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EvaluationConfig(episodes=1, lanes=4, timeout_s=4.0)
    config = cluster_config(evaluation=settings)
    run = new_run(tmp_path, config)

    class HungEvaluator(EvaluatorHost):
        def evaluate(self, *arguments: Any) -> Any:
            time.sleep(600)
            return super().evaluate(*arguments)

    monkeypatch.setattr(evaluations, "EvaluatorHost", HungEvaluator)
    assert cluster.train(config, run, False) == 0
    assert "evaluation_failed" in run.events.read_text()
    assert "timeout_s" in run.events.read_text()


def test_an_address_where_nothing_listens_fails_in_seconds(tmp_path: Path) -> None:
    config = cluster_config(address="127.0.0.1:9")
    run = new_run(tmp_path, config)
    begun = time.monotonic()
    with pytest.raises(ClusterFailure, match=r"127\.0\.0\.1, port 9"):
        cluster.train(config, run, False)
    assert time.monotonic() - begun < 5


def test_the_object_store_is_sized_from_what_can_be_under_way() -> None:
    from deploy.cluster.object_stores import object_store_bytes, unroll_bytes

    config = RunConfig(actors=ActorConfig(count=2, lanes=32))
    assert unroll_bytes(config) == (3 + 20 + 1) * 32 * 84 * 84
    assert object_store_bytes(config) >= 2 * 2 * 4 * unroll_bytes(config)
    assert supervisor.HEARTBEAT_S < 5
