"""Several learners on Ray: each with its own workers, all at the same update, none missed."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import small_runs
from heartbeats import at_heartbeats
from off_policy_runs import counting_control_config
from ray import cloudpickle
from small_runs import check_counting_column, counting_config, events, new_run, rows

from deploy import cluster
from deploy.cluster import learners
from deploy.cluster.learner_host import LearnerHost
from deploy.cluster.supervisor import Supervisor
from repertory import checkpoint
from repertory.config import (
    CheckpointConfig,
    CountingConfig,
    EvaluationConfig,
    GuideConfig,
    RunConfig,
    SacConfig,
)
from repertory.types import Unroll

# The hosts that are derived here travel by value: Ray's processes have no path to the tests.
for module in (sys.modules[__name__], small_runs):
    cloudpickle.register_pickle_by_value(module)

QUIET = EvaluationConfig(episodes=1, lanes=4, at_end=False)


def two_learners(count: int = 2, **changes: Any) -> RunConfig:
    config = counting_config(
        **{"runtime": "cluster", "evaluation": QUIET, "total_steps": 8_000} | changes
    )
    learner = config.learner.model_copy(update={"count": count, "exchange_timeout_s": 30.0})
    return config.model_copy(update={"learner": learner})


class TellingLearnerHost(LearnerHost):
    """A learner that tells what it holds."""

    async def seen(self) -> dict[str, Any]:
        """Return what this learner holds after how many updates."""
        return {"updates": self._loop.updates, "learner": self._learner.state()}


class WatchedLearnerHost(TellingLearnerHost):
    """A learner that checks its batches, and tells whose unrolls it learned from."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.workers: Counter[int] = Counter()
        self.tasks: Counter[int] = Counter()
        learn, insert = self._learner.update, self._experience.insert

        def inserted(unroll: Unroll) -> None:
            self.workers[unroll.worker] += 1
            insert(unroll)

        def update(batch: Unroll, progress: float) -> None:
            assert batch.lanes == self._config.learner.batch_size // self._config.learner.count
            for column in range(batch.lanes):
                check_counting_column(batch, column)
                self.tasks[int(batch.task[column])] += 1
            learn(batch, progress)

        self._experience.insert = inserted  # type: ignore[method-assign]
        self._learner.update = update  # type: ignore[method-assign]

    async def seen(self) -> dict[str, Any]:
        """Return besides whose unrolls came here, and which tasks' rows were learned from."""
        tasks, workers = dict(self.tasks), dict(self.workers)
        return await super().seen() | {"workers": workers, "tasks": tasks}


def ends_of(
    monkeypatch: pytest.MonkeyPatch, host: type[TellingLearnerHost]
) -> list[list[dict[str, Any]]]:
    """Let every run say what each of its learners had seen when all of them had stopped."""
    import ray

    found: list[list[dict[str, Any]]] = []
    stop = learners.Learners.stop

    def stopped(self: learners.Learners) -> None:
        stop(self)
        found.append(ray.get([host.seen.remote() for host in self._hosts], timeout=60))

    monkeypatch.setattr(learners.Learners, "stop", stopped)
    monkeypatch.setattr(learners, "LearnerHost", host)
    return found


def test_two_learners_have_workers_of_their_own_and_stay_the_same_and_one_goes_on_from_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = ends_of(monkeypatch, WatchedLearnerHost)
    config = two_learners()
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    first, second = ends[0]
    assert set(first["workers"]) == {0}
    assert set(second["workers"]) == {1}
    assert set(first["tasks"]) == set(second["tasks"]) == {0, 1, 2}
    assert first["updates"] == second["updates"] > 20
    first["learner"].pop("gradients"), second["learner"].pop("gradients")
    np.testing.assert_equal(first["learner"], second["learner"])

    state, _, _ = checkpoint.load_latest(run.checkpoints)
    last = rows(run)[-1]
    assert last["env_steps"] == state["counters"]["env_steps"] >= config.total_steps
    # What both have received is what is counted, each step once.
    counted = sum(own["steps"] for own in state["experience"]["counters"].values())
    assert counted == state["counters"]["env_steps"]
    assert len(state["shares"]) == 2
    assert sum(last[f"task/counting/{task}/steps"] for task in range(3)) == counted
    assert last["updates"] == first["updates"]

    # One learner goes on from what two have done, and counts on from there.
    alone = two_learners(count=1, total_steps=config.total_steps + 2_000)
    assert cluster.train(alone, run, True) == 0
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    assert after["counters"]["updates"] > state["counters"]["updates"]
    grown = sum(own["steps"] for own in after["experience"]["counters"].values())
    assert grown == after["counters"]["env_steps"] >= alone.total_steps
    assert "shares" not in after


@pytest.mark.slow
def test_a_learner_that_dies_takes_the_others_back_to_the_checkpoint_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = ends_of(monkeypatch, WatchedLearnerHost)
    config = two_learners(
        total_steps=10**9,
        checkpoint=CheckpointConfig(every_updates=20),
        environment=CountingConfig(step_seconds=2e-5),
    )
    run = new_run(tmp_path, config)
    killed: list[int] = []
    restarted_at: list[int] = []

    def kill_one(supervised: Supervisor, beat: Any) -> None:
        saved = list(run.checkpoints.glob("step_*"))
        if not killed and saved:
            import ray

            (host,) = supervised._learners._hosts[1:]
            killed.append(ray.get(host.process_id.remote(), timeout=60))
            psutil.Process(killed[0]).kill()
        elif events(run, "learner_restarted"):
            restarted_at.append(beat.updates)
            if beat.updates > restarted_at[0] + 5:
                os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, kill_one)
    assert cluster.train(config, run, False) == 143
    (restarted,) = events(run, "learner_restarted")
    assert restarted["checkpoint"].startswith("step_")
    first, second = ends[-1]
    assert first["updates"] == second["updates"]
    first["learner"].pop("gradients"), second["learner"].pop("gradients")
    np.testing.assert_equal(first["learner"], second["learner"])
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    counted = sum(own["steps"] for own in state["experience"]["counters"].values())
    assert counted == state["counters"]["env_steps"]


@pytest.mark.slow
def test_two_learners_replay_apart_and_go_on_from_a_checkpoint_with_what_each_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = ends_of(monkeypatch, TellingLearnerHost)
    base = counting_control_config(runtime="cluster", evaluation=QUIET, total_steps=3_000)
    config = base.model_copy(
        update={
            "learner": base.learner.model_copy(update={"count": 2}),
            "replay": base.replay.model_copy(update={"place": "process", "saved": True}),
            "algorithm": SacConfig(exploration_steps=20, guide=GuideConfig(kind="qmp", step=4)),
        }
    )
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    held = [share["rings"] for share in state["shares"]]
    assert len(held) == 2
    assert "rings" not in state["experience"]
    longer = config.model_copy(update={"total_steps": 5_000})
    assert cluster.train(longer, run, True) == 0
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    assert after["counters"]["env_steps"] >= 5_000
    for before, own in zip(state["shares"], after["shares"], strict=True):
        for task, records in before["records"].items():
            assert own["records"][task]["steps"] > records["steps"]
    counted = sum(own["steps"] for own in after["experience"]["records"].values())
    assert counted == after["counters"]["env_steps"]
    for first, second in ends:
        first["learner"].pop("gradients"), second["learner"].pop("gradients")
        np.testing.assert_equal(first["learner"], second["learner"])
        assert first["updates"] > 20
