"""The fast path against the installed package, to the bit."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from metaworld import MT1
from metaworld_play import make, play, random_actions, side_by_side
from scipy.spatial.transform import Rotation

from envs.metaworld.catalog import MT50
from envs.metaworld.fast import TWICE
from envs.metaworld.goals import fixed_goals
from envs.metaworld.quaternion import from_matrix
from repertory.config import MetaworldConfig

pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high:UserWarning")

SAMPLE = ("pick-place", "peg-insert-side", "drawer-open", "box-close", "stick-pull", "dial-turn")


@pytest.mark.parametrize("name", SAMPLE)
def test_the_fast_path_gives_the_package_s_numbers(name: str) -> None:
    goals = fixed_goals(f"{name}-v3", 0)[:2]
    pairs = side_by_side(name, goals=goals, reward_version="v2", fresh=False, horizon=40)
    for package, ours in pairs:
        assert ours == package


@pytest.mark.parametrize("name", ["push", "window-close"])
def test_it_does_so_with_fresh_goals_and_the_first_rewards(name: str) -> None:
    goals = fixed_goals(f"{name}-v3", 0)[:2]
    pairs = side_by_side(name, goals=goals, reward_version="v1", fresh=True, horizon=30)
    for package, ours in pairs:
        assert ours == package


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("reward_version", ["v2", "v1"])
@pytest.mark.parametrize("name", MT50)
def test_it_does_so_in_every_task(name: str, reward_version: str, fresh: bool) -> None:
    goals = fixed_goals(f"{name}-v3", 0)[:3]
    records = 0
    for package, ours in side_by_side(
        name, goals=goals, reward_version=reward_version, fresh=fresh, horizon=200
    ):
        assert ours == package
        records += 1
    assert records == 6 * 201


@pytest.mark.slow
@pytest.mark.parametrize("name", MT50)
def test_resets_that_skip_work_lead_to_the_package_s_states(name: str) -> None:
    goals = fixed_goals(f"{name}-v3", 5)[:12]
    for package, ours in side_by_side(
        name, goals=goals, reward_version="v2", fresh=False, horizon=5
    ):
        assert ours == package


@pytest.mark.parametrize("name", ["reach", "peg-insert-side"])
def test_fixed_goals_are_the_benchmark_s(name: str) -> None:
    _check_goals(name, seed=11)


@pytest.mark.slow
@pytest.mark.parametrize("name", MT50)
def test_fixed_goals_are_the_benchmark_s_in_every_task(name: str) -> None:
    _check_goals(name, seed=2)


def test_the_tasks_reset_twice_are_tasks() -> None:
    assert {name.removesuffix("-v3") for name in TWICE} <= set(MT50)


def test_quaternions_are_scipy_s_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    matrix = np.empty(9)
    for number in range(4000):
        quaternion = generator.normal(size=4)
        if number % 4:
            axis = np.eye(4)[generator.integers(4)]
            quaternion = axis + quaternion * 10.0 ** -generator.integers(1, 20)
        mujoco.mju_quat2Mat(matrix, quaternion / np.linalg.norm(quaternion))
        expected = Rotation.from_matrix(matrix.reshape(3, 3)).as_quat()
        assert np.array(from_matrix(matrix)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("goals", ["fixed", "fresh"])
def test_lanes_are_the_same_with_and_without_the_fast_path(goals: str) -> None:
    names = ["push", "door-open", "drawer-open"]
    fast, slow = (
        make(names, MetaworldConfig.model_validate({"fast": fast, "goals": goals, "horizon": 12}))
        for fast in (True, False)
    )
    assert fast.reset().tobytes() == slow.reset().tobytes()
    actions = random_actions(40, 3)
    assert play(fast, actions) == play(slow, actions)


def _check_goals(name: str, seed: int) -> None:
    import pickle

    tasks = MT1(f"{name}-v3", seed=seed).train_tasks
    expected = [pickle.loads(task.data)["rand_vec"] for task in tasks]
    ours = fixed_goals(f"{name}-v3", seed)
    assert len(ours) == 50
    assert [goal.tobytes() for goal in ours] == [goal.tobytes() for goal in expected]
