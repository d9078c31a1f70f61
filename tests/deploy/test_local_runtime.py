"""The local runtime: data flow step by step, repeatable and resumable to the bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import (
    assert_same,
    atari_config,
    check_counting_column,
    counting_config,
    new_run,
    rows,
)

from deploy import local
from deploy.local import LocalRun
from repertory import checkpoint
from repertory.config import ActorConfig, CheckpointConfig, RunConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import State
from repertory.types import Unroll


def test_every_step_reaches_the_learner_once_and_unmixed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = counting_config()
    run = LocalRun(config)
    seen: dict[tuple[int, int, int], int] = {}
    batches: list[Unroll] = []
    learn = run.learner.update

    def watch(batch: Unroll, progress: float) -> None:
        batches.append(batch)
        learn(batch, progress)

    monkeypatch.setattr(run.learner, "update", watch)
    for _ in range(20):
        run.round()
    assert len(batches) > 20
    for batch in batches:
        assert batch.task.tolist() == [0, 0, 1, 1, 2, 2]
        for column in range(batch.lanes):
            for key in check_counting_column(batch, column):
                seen[key] = seen.get(key, 0) + 1
    # Two lanes of two workers play each task: nothing arrives more often than it was played.
    assert max(seen.values()) <= 4
    played = sum(counters.rows for counters in run.experience.counters)
    assert played == 20 * 12
    left = run.experience.metrics()["replay/rows"]
    assert played == sum(batch.lanes for batch in batches) + left


def state_after(config: RunConfig, root: Path, name: str, updates: int) -> State:
    """Train until `updates` updates and return the checkpoint written then."""
    run = new_run(root, config, name)
    code = local.train(config, run, False, after_round=lambda r: r.loop.updates >= updates)
    assert code == 0
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    return state


@pytest.mark.parametrize("config", [counting_config(), atari_config()], ids=["counting", "atari"])
def test_twenty_updates_equal_ten_and_a_resume_and_ten(config: RunConfig, tmp_path: Path) -> None:
    whole = state_after(config, tmp_path, "whole", 20)
    state_after(config, tmp_path, "parts", 10)
    from repertory.run_directory import RunDirectory

    run = RunDirectory.open(tmp_path / "parts")
    local.train(config, run, True, after_round=lambda r: r.loop.updates >= 20)
    parts, _, _ = checkpoint.load_latest(run.checkpoints)
    assert whole["counters"]["updates"] == 20
    for part in ("learner", "weights", "experience", "workers", "counters"):
        assert_same(whole[part], parts[part], part)
    assert_same(whole["recorder"]["averages"], parts["recorder"]["averages"])


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    one = state_after(counting_config(), tmp_path, "one", 3)
    two = state_after(counting_config(seed=2), tmp_path, "two", 3)
    assert not np.array_equal(one["weights"]["vector"], two["weights"]["vector"])


def test_a_run_ends_at_its_budget_with_records_and_a_checkpoint(tmp_path: Path) -> None:
    config = counting_config()
    run = new_run(tmp_path, config)
    assert local.train(config, run, False) == 0
    written = rows(run)
    training = [row for row in written if "learner/policy_loss" in row]
    assert training[-1]["env_steps"] >= config.total_steps
    assert training[-1]["frames"] == training[-1]["env_steps"]
    for task, length in (("counting/0", 7), ("counting/1", 8), ("counting/2", 9)):
        assert training[-1][f"task/{task}/return"] == length * (length - 1) / 2
        assert training[-1][f"task/{task}/lag"] >= 0
    evaluations = [row for row in written if "eval/greedy/task/counting/1/return" in row]
    assert len(evaluations) == 1
    assert evaluations[0]["eval/greedy/task/counting/1/return"] == 28.0
    assert evaluations[0]["eval/greedy/return_mean"] == (21.0 + 28.0 + 36.0) / 3
    assert "eval/greedy/success_mean" not in evaluations[0]
    assert len(list(run.evaluations.glob("*.json"))) == 1
    assert checkpoint.load_latest(run.checkpoints)[0]["counters"]["env_steps"] >= 1200


def test_a_resume_with_other_workers_goes_on_from_the_same_counters(tmp_path: Path) -> None:
    before = state_after(counting_config(), tmp_path, "run", 10)
    config = counting_config(actors=ActorConfig(count=3, lanes=4, precision="fp32"))
    from repertory.run_directory import RunDirectory

    run = RunDirectory.open(tmp_path / "run")
    # Long enough that a resume which delivered nothing would be noticed, not waited for.
    rounds: list[int] = []

    def stop_at(updates: int) -> Callable[[LocalRun], bool]:
        def reached(r: LocalRun) -> bool:
            rounds.append(r.loop.updates)
            assert len(rounds) < 200
            return r.loop.updates >= updates

        return reached

    local.train(config, run, True, after_round=stop_at(12))
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    assert after["counters"]["updates"] >= 12
    assert after["counters"]["env_steps"] > before["counters"]["env_steps"]
    assert after["counters"]["incarnation"] == 1
    env_steps = [row["env_steps"] for row in rows(run)]
    assert env_steps == sorted(env_steps)
    # Once more, with the workers as they are now: theirs is a later incarnation than a new run's.
    local.train(config, run, True, after_round=stop_at(20))
    again, _, _ = checkpoint.load_latest(run.checkpoints)
    assert again["counters"]["updates"] >= 20
    assert again["experience"]["refused"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_checkpoint_and_its_exit_code(number: int, tmp_path: Path) -> None:
    config = counting_config(total_steps=10**9)
    run = new_run(tmp_path, config)

    def send(local_run: LocalRun) -> bool:
        if local_run.loop.updates >= 5:
            os.kill(os.getpid(), number)
        return False

    before = signal.getsignal(number)
    assert local.train(config, run, False, after_round=send) == 128 + number
    assert checkpoint.load_latest(run.checkpoints)[0]["counters"]["updates"] >= 5
    assert signal.getsignal(number) == before


def test_checkpoints_come_at_their_interval_and_old_ones_go(tmp_path: Path) -> None:
    config = counting_config(checkpoint=CheckpointConfig(every_updates=4, keep=2))
    run = new_run(tmp_path, config)
    local.train(config, run, False)
    kept = [path for path in run.checkpoints.iterdir() if path.is_dir()]
    assert len(kept) == 2


def test_an_environment_that_raises_ends_a_run_that_tolerates_none_with_its_task(
    tmp_path: Path,
) -> None:
    config = counting_config(
        actors=ActorConfig(count=2, lanes=6, precision="fp32", environment_failures=0)
    )
    failing = config.environment.model_copy(update={"fail_task": "counting/2", "fail_step": 12})
    config = config.model_copy(update={"environment": failing})
    run = new_run(tmp_path, config)
    with pytest.raises(EnvironmentFailure, match="counting/2"):
        local.train(config, run, False)
    assert "counting/2" in run.events.read_text()


def test_a_checkpoint_of_another_network_is_refused_with_both_named(tmp_path: Path) -> None:
    state_after(counting_config(), tmp_path, "run", 3)
    other = counting_config()
    wider = other.network.model_copy(update={"hidden": 24})
    other = other.model_copy(update={"network": wider})
    from repertory.run_directory import RunDirectory

    with pytest.raises(BadInput, match="checkpoint"):
        local.train(other, RunDirectory.open(tmp_path / "run"), True)


def test_a_disk_that_is_full_at_an_evaluation_costs_the_file_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = counting_config()
    run = new_run(tmp_path, config)
    write = Path.write_text

    def full(self: Path, *arguments: Any, **keywords: Any) -> int:
        if self.parent == run.evaluations:
            raise OSError(28, "No space left on device")
        return write(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "write_text", full)
    assert local.train(config, run, False) == 0
    assert not list(run.evaluations.glob("*.json"))
    assert "evaluation_not_written" in run.events.read_text()
    assert any("eval/greedy/task/counting/1/return" in row for row in rows(run))


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_a_version_delay_is_the_lag_that_is_measured(delay: int) -> None:
    config = counting_config(
        actors=ActorConfig(count=1, lanes=6, precision="fp32", version_delay=delay)
    )
    run = LocalRun(config)
    for _ in range(10):
        run.round()
    run.experience.metrics()
    for _ in range(5):
        run.round()
    measured = run.experience.metrics()
    assert measured["lag/mean"] == measured["lag/max"] == delay
