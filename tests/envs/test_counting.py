"""The counting environment counts: what other tests rely on to find lost or mixed steps."""

from __future__ import annotations

import time

import numpy as np
import pytest

from envs import registry
from repertory.config import CountingConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import Lanes


def make(settings: CountingConfig, tasks: int = 2, assignment: list[int] | None = None) -> Lanes:
    names = [f"counting/{task}" for task in range(tasks)]
    specs = registry.task_specs(names, settings, 0.9)
    lanes = list(range(tasks)) if assignment is None else assignment
    return registry.make_lanes(settings, specs, lanes, seed=1, path=())


def test_every_step_of_a_lane_can_be_told_from_its_observation() -> None:
    lanes = make(CountingConfig(episode_length=2, truncate_every=2), tasks=2)
    assert lanes.reset().tolist() == [[0, 0, 0], [1, 0, 0]]
    rows = []
    for _ in range(7):
        result = lanes.step(np.zeros(2, dtype=np.int64))
        rows.append(
            [
                (
                    *(int(value) for value in result.observation[lane]),
                    float(result.reward[lane]),
                    "terminated"
                    if result.terminated[lane]
                    else "truncated"
                    if result.truncated[lane]
                    else "started"
                    if result.started[lane] and not result.valid[lane]
                    else "",
                )
                for lane in range(2)
            ]
        )
    assert [first for first, _ in rows] == [
        (0, 0, 1, 0.0, ""),
        (0, 0, 2, 1.0, "terminated"),
        (0, 1, 0, 0.0, "started"),
        (0, 1, 1, 0.0, ""),
        (0, 1, 2, 1.0, "truncated"),
        (0, 2, 0, 0.0, "started"),
        (0, 2, 1, 0.0, ""),
    ]
    assert [second for _, second in rows] == [
        (1, 0, 1, 0.0, ""),
        (1, 0, 2, 1.0, ""),
        (1, 0, 3, 2.0, "terminated"),
        (1, 1, 0, 0.0, "started"),
        (1, 1, 1, 0.0, ""),
        (1, 1, 2, 1.0, ""),
        (1, 1, 3, 2.0, "truncated"),
    ]


def test_an_episodes_record_is_its_sum_and_its_length() -> None:
    lanes = make(CountingConfig(episode_length=5, truncate_every=1), tasks=1)
    lanes.reset()
    results = [lanes.step(np.zeros(1, dtype=np.int64)) for _ in range(5)]
    (record,) = results[-1].episodes
    assert (record.task, record.length, record.truncated) == (0, 5, True)
    assert record.raw_return == sum(float(result.reward[0]) for result in results) == 10.0


def test_zero_never_truncates() -> None:
    lanes = make(CountingConfig(episode_length=1, truncate_every=0), tasks=1)
    lanes.reset()
    assert not any(lanes.step(np.zeros(1, dtype=np.int64)).truncated[0] for _ in range(20))


def test_lanes_play_the_task_they_are_assigned() -> None:
    lanes = make(CountingConfig(), tasks=3, assignment=[2, 0, 2])
    assert lanes.task.tolist() == [2, 0, 2]
    assert lanes.reset()[:, 0].tolist() == [2, 0, 2]


def test_a_restored_state_goes_on_where_it_was() -> None:
    settings = CountingConfig(episode_length=3)
    lanes, other = make(settings), make(settings)
    lanes.reset()
    for _ in range(9):
        lanes.step(np.zeros(2, dtype=np.int64))
    other.restore(lanes.state())
    for _ in range(9):
        result, again = (each.step(np.zeros(2, dtype=np.int64)) for each in (lanes, other))
        assert np.array_equal(result.observation, again.observation)
        assert np.array_equal(result.truncated, again.truncated)
        assert result.episodes == again.episodes
    with pytest.raises(BadInput, match="the saved lanes play"):
        make(settings, tasks=3).restore(lanes.state())


def test_the_failing_task_fails_at_its_step_and_not_before() -> None:
    lanes = make(CountingConfig(fail_task="counting/1", fail_step=3))
    lanes.reset()
    for _ in range(3):
        lanes.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(EnvironmentFailure) as caught:
        lanes.step(np.zeros(2, dtype=np.int64))
    assert str(caught.value) == "counting/1 (lane 1) failed: asked to at step 3"


def test_each_lanes_step_takes_the_time_it_is_told_to() -> None:
    lanes = make(CountingConfig(step_seconds=0.01), tasks=3)
    lanes.reset()
    began = time.perf_counter()
    lanes.step(np.zeros(3, dtype=np.int64))
    assert time.perf_counter() - began >= 0.03


def test_an_action_out_of_range_names_the_task_and_the_range() -> None:
    lanes = make(CountingConfig(actions=3))
    lanes.reset()
    with pytest.raises(EnvironmentFailure) as caught:
        lanes.step(np.array([0, 3]))
    assert str(caught.value) == "counting/1 (lane 1): action 3 is not one of 0 to 2."
    with pytest.raises(EnvironmentFailure, match="need one integer action for each of 2 lanes"):
        lanes.step(np.array([0.5, 1.0]))


def test_continuous_lanes_take_a_box_and_count_as_the_discrete_ones_do() -> None:
    settings = CountingConfig(episode_length=2, truncate_every=2)
    discrete = make(settings)
    continuous = make(settings.model_copy(update={"continuous": True, "actions": 3}))
    assert np.array_equal(discrete.reset(), continuous.reset())
    for step in range(9):
        box = np.full((2, 3), -1.0 if step % 2 else 1.0, dtype=np.float32)
        result, again = discrete.step(np.zeros(2, dtype=np.int64)), continuous.step(box)
        for field in ("observation", "reward", "terminated", "truncated", "valid", "started"):
            assert np.array_equal(getattr(result, field), getattr(again, field)), field
        assert result.episodes == again.episodes


def test_a_continuous_action_out_of_its_box_names_the_task_and_the_box() -> None:
    lanes = make(CountingConfig(continuous=True, actions=3))
    lanes.reset()
    action = np.zeros((2, 3), dtype=np.float32)
    for wrong, text in ((1.5, "1.5"), (-1.25, "-1.25"), (np.nan, "nan")):
        action[1, 2] = wrong
        with pytest.raises(EnvironmentFailure) as caught:
            lanes.step(action)
        assert str(caught.value) == (
            f"counting/1 (lane 1): number 2 of the action is {text}, not in [-1, 1]."
        )
    for shapeless in (np.zeros(2, np.int64), np.zeros((2, 2), np.float32), np.zeros((2, 3))):
        with pytest.raises(EnvironmentFailure, match=r"need float32 actions of shape \(2, 3\)"):
            lanes.step(shapeless)
