"""Environments that raise, answer nonsense or never start: dropped, rebuilt, counted, given up."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from off_policy_runs import counting_control_config
from small_runs import COUNTING_TASKS, counting_config, events, new_run, rows

from deploy import build, local
from envs.contained import ContainedLanes, FailureBudget
from envs.registry import make_lanes, resolve, task_specs
from repertory import checkpoint
from repertory.config import (
    ActorConfig,
    AtariConfig,
    CheckpointConfig,
    CountingConfig,
    EnvironmentConfig,
    EvaluationConfig,
    HalfCheetahConfig,
    MetaworldConfig,
    PointMassConfig,
    RunConfig,
)
from repertory.errors import EnvironmentFailure
from repertory.ports import Batch
from repertory.types import StepResult, Unroll

FAILING = "counting/1"
HOWS = ["raise", "nan_reward", "nan_observation", "wrong_shape", "wrong_dtype"]


def contained(
    settings: EnvironmentConfig, names: tuple[str, ...], *, tolerated: int = 3
) -> ContainedLanes:
    tasks = task_specs(names, settings, 0.99)
    lanes = make_lanes(settings, tasks, range(len(names)), seed=1, path=("test",))
    return ContainedLanes(lanes, tasks, FailureBudget(tolerated, 600.0))


def failing_config(base: Any = counting_config, *, fail_times: int, **changes: Any) -> RunConfig:
    """A run of which one task fails; nothing else about it is unusual."""
    how = changes.pop("fail_how", "raise")
    step = changes.pop("fail_step", 12)
    plain = base()
    environment = plain.environment.model_copy(
        update={
            "fail_task": FAILING,
            "fail_step": step,
            "fail_times": fail_times,
            "fail_how": how,
        }
    )
    # Evaluation would meet the same failure, and is not what is tested.
    evaluation = EvaluationConfig(at_end=False)
    changed = {"environment": environment, "evaluation": evaluation} | changes
    return plain.model_copy(update=changed)


@pytest.mark.parametrize("how", HOWS)
def test_a_failed_step_drops_the_episode_and_the_lane_goes_on_in_a_new_one(how: Any) -> None:
    settings = CountingConfig(fail_task=FAILING, fail_step=3, fail_times=1, fail_how=how)
    lanes = contained(settings, COUNTING_TASKS)
    lanes.reset()
    results: list[StepResult] = [lanes.step(np.zeros(3, np.int64)) for _ in range(8)]
    assert [result.valid.tolist() for result in results[:3]] == [[True] * 3] * 3
    failed = results[3]
    assert failed.valid.tolist() == [True, False, True]
    assert failed.started.tolist() == [False, True, False]
    assert failed.reward.tolist() == [3, 0, 3]
    assert not failed.terminated.any()
    assert not failed.truncated.any()
    assert failed.observation[1].tolist() == [1, 1, 0]
    assert [(fault.task, fault.gave_up) for fault in failed.faults] == [(1, False)]
    assert FAILING in failed.faults[0].reason
    # The others count on as if nothing had been.
    assert failed.observation[0].tolist() == [0, 0, 4]
    assert results[4].observation.tolist() == [[0, 0, 5], [1, 1, 1], [2, 0, 5]]
    assert all(not result.faults for result in results[4:])


def test_a_failure_in_the_first_reset_is_contained_and_reported() -> None:
    class BrokenStart:
        """A simulator whose first start fails, which no setting of ours can bring about."""

        def __init__(self) -> None:
            self.inner = make_lanes(
                PointMassConfig(), specs, range(len(specs)), seed=1, path=("test",)
            )

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def reset(self) -> np.ndarray:
            first = self.inner.reset()
            self.inner.failures.note(1, OSError("no such scene"))
            return first

    specs = task_specs(resolve(("pointmass/mt3",), PointMassConfig()), PointMassConfig(), 0.99)
    subject = ContainedLanes(BrokenStart(), specs, FailureBudget(2, 600.0))
    assert np.isfinite(subject.reset()).all()
    result = subject.step(np.zeros((len(specs), 2), np.float32))
    assert [fault.task for fault in result.faults] == [1]
    assert "OSError: no such scene" in result.faults[0].reason
    assert result.valid.all()


@pytest.mark.parametrize(
    ("how", "form"), [("wrong_shape", r"float32 \(1,\)"), ("wrong_dtype", r"int64 \(3,\)")]
)
def test_an_observation_that_is_not_of_its_tasks_form_is_refused_with_both(
    how: Any, form: str
) -> None:
    settings = CountingConfig(fail_task=FAILING, fail_step=0, fail_how=how)
    lanes = contained(settings, COUNTING_TASKS, tolerated=0)
    lanes.reset()
    said = rf"counting/1 \(lane 1\) .*an observation of {form}, where the task's are float32 \(3,\)"
    with pytest.raises(EnvironmentFailure, match=said):
        lanes.step(np.zeros(3, np.int64))


@pytest.mark.parametrize("part", [np.s_[:, :1], np.s_[:, :, None]])
def test_observations_of_all_lanes_in_another_form_fail_every_lane_and_none_is_shown(
    part: Any,
) -> None:
    class Misshapen:
        """Lanes of a suite that puts its observations together wrongly from the fourth step on."""

        def __init__(self) -> None:
            self.inner = make_lanes(CountingConfig(), specs, range(3), seed=1, path=("test",))
            self.steps = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def step(self, action: np.ndarray) -> StepResult:
            result = self.inner.step(action)
            self.steps += 1
            wrong = self.steps == 4
            shown = result.observation[part] if wrong else result.observation
            return dataclasses.replace(result, observation=shown)

    specs = task_specs(COUNTING_TASKS, CountingConfig(), 0.99)
    subject = ContainedLanes(Misshapen(), specs, FailureBudget(2, 600.0))
    subject.reset()
    results = [subject.step(np.zeros(3, np.int64)) for _ in range(5)]
    failed = results[3]
    assert not failed.valid.any()
    assert failed.started.all()
    assert failed.observation.tolist() == [[0, 1, 0], [1, 1, 0], [2, 1, 0]]
    assert [fault.task for fault in failed.faults] == [0, 1, 2]
    assert "counting/2 (lane 2) gave observations of float32 (" in failed.faults[2].reason
    assert results[4].valid.all()


def test_a_task_whose_environments_never_start_is_given_up_after_its_budget() -> None:
    settings = CountingConfig(fail_task=FAILING, fail_step=2, fail_how="reset")
    lanes = contained(settings, COUNTING_TASKS, tolerated=3)
    lanes.reset()
    results = [lanes.step(np.zeros(3, np.int64)) for _ in range(10)]
    faults = [fault for result in results for fault in result.faults]
    assert [fault.gave_up for fault in faults] == [False, False, False, True]
    for result in results[2:]:
        assert not result.valid[1]
        assert result.observation[1].tolist() == [0, 0, 0]
        assert result.valid[0] or result.started[0]
    assert "given_up" in lanes.state()


def test_failures_long_ago_are_forgotten() -> None:
    now = [0.0]
    task = task_specs(COUNTING_TASKS, CountingConfig(), 0.99)[1]
    budget = FailureBudget(2, window_s=10.0, clock=lambda: now[0])
    for second in (0.0, 6.0, 12.0, 18.0, 24.0):
        now[0] = second
        assert not budget.spend(task, "it broke").gave_up
    now[0] = 24.5
    assert budget.spend(task, "it broke").gave_up
    assert budget.given_up == {1}


def test_a_budget_of_nothing_raises_the_first_failure() -> None:
    settings = CountingConfig(fail_task=FAILING, fail_step=0)
    lanes = contained(settings, COUNTING_TASKS, tolerated=0)
    lanes.reset()
    with pytest.raises(EnvironmentFailure, match=FAILING):
        lanes.step(np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (AtariConfig(max_frames=400), ("atari/breakout/m0d0", "atari/breakout/m4d0")),
        (HalfCheetahConfig(horizon=6), ("halfcheetah/mt5",)),
        (MetaworldConfig(horizon=6), ("metaworld/reach", "metaworld/push")),
        (PointMassConfig(horizon=6), ("pointmass/mt3",)),
    ],
)
def test_every_suite_rebuilds_one_lane_and_leaves_the_others_as_they_are(
    settings: EnvironmentConfig, names: tuple[str, ...]
) -> None:
    names = resolve(names, settings)[:2]
    tasks = task_specs(names, settings, 0.99)
    made = [
        make_lanes(settings, tasks, range(len(names)), seed=1, path=("test",)) for _ in range(2)
    ]
    subject = ContainedLanes(made[0], tasks, FailureBudget(3, 600.0))
    undisturbed = made[1]
    np.testing.assert_array_equal(subject.reset(), undisturbed.reset())
    spec = tasks[0].action
    action = (
        np.zeros(2, np.int64) if spec.kind == "discrete" else np.zeros((2, spec.size), np.float32)
    )
    for step in range(16):
        if step == 4:
            made[0].failures.note(0, RuntimeError("the emulator broke"))
        ours, theirs = subject.step(action), undisturbed.step(action)
        assert ours.observation.shape == theirs.observation.shape
        assert ours.observation.dtype == theirs.observation.dtype
        # Points share one stream of noise over lanes; every other suite has one stream per lane.
        if settings.suite != "pointmass" or step < 4:
            np.testing.assert_array_equal(ours.observation[1], theirs.observation[1])
            assert ours.reward[1] == theirs.reward[1]
        if step == 4:
            assert ours.started.tolist() == [True, False]
            assert "RuntimeError: the emulator broke" in ours.faults[0].reason
        elif step > 4:
            assert not ours.faults
            assert np.isfinite(ours.reward).all()


@pytest.mark.parametrize("how", HOWS)
def test_a_run_survives_failures_counts_them_and_learns_from_whole_steps_only(
    how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = failing_config(fail_times=2, fail_how=how)
    seen: list[Unroll] = []
    learner_of = build.learner

    def watched(*arguments: Any) -> Any:
        learner = learner_of(*arguments)
        update = learner.update

        def noting(batch: Batch, progress: float) -> None:
            assert isinstance(batch, Unroll)
            seen.append(batch)
            update(batch, progress)

        learner.update = noting  # type: ignore[method-assign]
        return learner

    monkeypatch.setattr(build, "learner", watched)
    run = new_run(tmp_path, config)
    assert local.train(config, run, False) == 0
    last = rows(run)[-1]
    # Two workers, each with two lanes of the task, and two steps that fail.
    assert last["health/environment_errors"] == 8
    assert last[f"task/{FAILING}/environment_errors"] == 8
    assert "task/counting/0/environment_errors" not in last
    assert last["health/tasks_given_up"] == 0
    failed = events(run, "environment_failed")
    assert {event["task"] for event in failed} == {FAILING}
    assert last["learner/nonfinite_updates"] == 0
    assert last["task/counting/1/return"] == 28
    for batch in seen:
        assert np.isfinite(batch.observation).all()
        assert np.isfinite(batch.reward).all()
        following = batch.observation[1:]
        counted = following[..., 2] == batch.observation[:-1, :, 2] + 1
        same = following[..., 1] == batch.observation[:-1, :, 1]
        # A valid step counts on within its episode; nothing else is shown as valid.
        assert (counted & same)[batch.valid].all()
        assert (batch.reward == batch.observation[:-1, :, 2])[batch.valid].all()


def test_a_task_that_is_given_up_leaves_its_share_of_the_batch_to_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = failing_config(fail_times=0, fail_step=30)
    run = new_run(tmp_path, config)
    with caplog.at_level(logging.WARNING):
        assert local.train(config, run, False) == 0
    last = rows(run)[-1]
    assert last["env_steps"] >= config.total_steps
    assert last["health/tasks_given_up"] == 1
    assert last["task/counting/0/steps"] > 2 * last["task/counting/1/steps"]
    assert "gave up counting/1 after more than 5 failures" in caplog.text
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    counters = state["experience"]["counters"]
    arrived = sum(one["rows"] for one in counters.values())
    dropped = sum(one["dropped_overflow"] + one["dropped_stale"] for one in counters.values())
    taken = state["counters"]["updates"] * config.learner.batch_size
    assert dropped == 0
    assert arrived == taken + last["replay/rows"]


def test_a_resumed_run_tries_a_given_up_task_again(tmp_path: Path) -> None:
    config = failing_config(fail_times=0, fail_step=100, checkpoint=CheckpointConfig(every_s=600.0))
    run = new_run(tmp_path, config)
    assert local.train(config, run, False) == 0
    before = rows(run)[-1]
    mended = config.model_copy(
        update={"environment": CountingConfig(), "total_steps": config.total_steps + 600}
    )
    assert local.train(mended, run, True) == 0
    after = rows(run)[-1]
    assert after["health/tasks_given_up"] == 0
    assert after["task/counting/1/steps"] > before["task/counting/1/steps"] + 100


def test_a_run_whose_tasks_are_all_given_up_ends_with_the_first_cause(tmp_path: Path) -> None:
    config = failing_config(fail_times=0, tasks=(FAILING,))
    run = new_run(tmp_path, config)
    with pytest.raises(EnvironmentFailure, match=r"every task was given up; counting/1 .*step 12"):
        local.train(config, run, False)
    assert EnvironmentFailure.exit_code == 3
    assert events(run)[-1]["kind"] == "failed"


def test_off_policy_a_given_up_task_is_replayed_from_what_it_left(tmp_path: Path) -> None:
    config = failing_config(counting_control_config, fail_times=0, fail_step=100)
    run = new_run(tmp_path, config)
    assert local.train(config, run, False) == 0
    last = rows(run)[-1]
    assert last["health/tasks_given_up"] == 1
    assert last["env_steps"] >= config.total_steps
    assert 0 < last["task/counting/1/steps"] < last["task/counting/0/steps"]
    assert last["learner/nonfinite_updates"] == 0
    assert last["updates"] > 10


def test_off_policy_a_task_that_never_played_ends_the_run_with_its_cause(tmp_path: Path) -> None:
    config = failing_config(counting_control_config, fail_times=0, fail_step=0, fail_how="reset")
    run = new_run(tmp_path, config)
    with pytest.raises(EnvironmentFailure, match=r"before it left anything to replay; counting/1"):
        local.train(config, run, False)


def test_a_budget_is_a_setting_of_the_workers() -> None:
    with pytest.raises(ValueError, match="environment_failures"):
        ActorConfig(environment_failures=-1)
