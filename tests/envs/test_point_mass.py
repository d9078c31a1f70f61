"""The point-mass group moves, ends, and makes following another task's policy worth while."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from envs import point_mass, registry
from envs.point_mass import PointMassLanes
from repertory import checkpoint
from repertory.config import PointMassConfig
from repertory.errors import BadInput, EnvironmentFailure

Explorer = Callable[[np.random.Generator, int], np.ndarray]


def make(
    names: list[str],
    assignment: list[int] | None = None,
    *,
    seed: int = 1,
    settings: PointMassConfig | None = None,
) -> PointMassLanes:
    settings = settings or PointMassConfig()
    specs = registry.task_specs([f"pointmass/{name}" for name in names], settings, 0.99)
    assigned = list(range(len(names))) if assignment is None else assignment
    lanes = registry.make_lanes(settings, specs, assigned, seed=seed, path=("actor", 0))
    assert isinstance(lanes, PointMassLanes)
    return lanes


def toward(target: tuple[float, float], observation: np.ndarray) -> np.ndarray:
    """Return the actions that go straight to a target: what a trained policy would do."""
    way = (np.array(target, np.float32) - observation) / point_mass.SPEED
    return np.clip(way, -1.0, 1.0).astype(np.float32)


def gaussian(generator: np.random.Generator, lanes: int) -> np.ndarray:
    return np.clip(generator.standard_normal((lanes, 2)), -1.0, 1.0).astype(np.float32)


def uniform(generator: np.random.Generator, lanes: int) -> np.ndarray:
    return generator.uniform(-1.0, 1.0, (lanes, 2)).astype(np.float32)


def one_point_moved(position: np.ndarray, displacement: np.ndarray) -> list[float]:
    """Move one point as one would with ruler and pencil."""
    x, y = position.tolist()
    new_x = min(max(x + displacement[0], -1.0), 1.0)
    new_y = min(max(y + displacement[1], -1.0), 1.0)
    if (x < 0.0) == (new_x < 0.0):
        return [new_x, new_y]
    slope = (new_y - y) / (new_x - x)
    if abs(y + slope * (0.0 - x) - 0.6) <= 0.15:
        return [new_x, new_y]
    return [-1e-3 if x < 0.0 else 1e-3, new_y]


def test_many_points_move_as_each_would_alone() -> None:
    generator = np.random.default_rng(0)
    position = generator.uniform(-1.0, 1.0, (4000, 2))
    # Half of them near the wall, a quarter near the gap.
    position[:2000, 0] *= 0.1
    position[:1000, 1] = generator.uniform(0.3, 0.9, 1000)
    displacement = generator.uniform(-0.15, 0.15, (4000, 2))
    together = point_mass.moved(position, displacement)
    alone = [one_point_moved(*pair) for pair in zip(position, displacement, strict=True)]
    assert np.allclose(together, alone, rtol=0.0, atol=1e-12)
    crossed = (position[:, 0] < 0.0) != (together[:, 0] < 0.0)
    stopped = np.abs(together[:, 0]) == 1e-3
    assert min(np.count_nonzero(crossed), np.count_nonzero(stopped)) > 100


def test_the_wall_holds_below_the_gap_and_lets_points_slide_along_it() -> None:
    lanes = make(["beyond"])
    lanes.reset()
    for _ in range(20):
        last = lanes.step(np.array([[1.0, 0.0]], np.float32)).observation
    assert last[0, 0] == np.float32(-1e-3)
    up = lanes.step(np.array([[1.0, 1.0]], np.float32)).observation
    assert up[0, 0] == np.float32(-1e-3)
    assert up[0, 1] == pytest.approx(last[0, 1] + point_mass.SPEED, abs=1e-6)


def success_of(explore: Explorer, guided: int, episodes: int = 4000) -> float:
    """Return how often `beyond` is reached after `guided` steps toward the door."""
    lanes = make(["beyond"], [0] * episodes)
    generator = np.random.default_rng(7)
    observation = lanes.reset()
    for step in range(PointMassConfig().horizon):
        own = explore(generator, episodes)
        action = toward(point_mass.TASKS["door"].target, observation) if step < guided else own
        result = lanes.step(action)
        observation = result.observation
    assert len(result.episodes) == episodes
    return float(np.mean([record.success for record in result.episodes]))


@pytest.mark.parametrize("explore", [gaussian, uniform])
def test_the_hard_task_needs_the_easy_ones_policy(explore: Explorer) -> None:
    assert success_of(explore, guided=0) < 0.01
    for guided in (10, 15, 20):
        assert success_of(explore, guided) > 0.2


@pytest.mark.parametrize(("name", "least"), [("door", 38.0), ("corner", 40.0), ("beyond", 30.0)])
def test_returns_tell_a_good_policy_from_none(name: str, least: float) -> None:
    good, none = make([name], [0] * 50), make([name], [0] * 50)
    generator = np.random.default_rng(0)
    observation = good.reset()
    none.reset()
    for _ in range(PointMassConfig().horizon):
        through = name == "beyond" and bool((observation[:, 0] < 0.0).any())
        target = point_mass.TASKS["door" if through else name].target
        played = good.step(toward(target, observation))
        observation = played.observation
        wandered = none.step(uniform(generator, 50))
    assert all(record.success for record in played.episodes)
    best = np.mean([record.raw_return for record in played.episodes])
    assert least < best <= 50.0
    assert best > 1.5 * np.mean([record.raw_return for record in wandered.episodes])


def test_the_observation_tells_neither_task_nor_target() -> None:
    positions = []
    for name in ("door", "corner", "beyond"):
        lanes = make([name])
        first = lanes.reset()
        positions.append([first, lanes.step(np.full((1, 2), 0.5, np.float32)).observation])
    assert np.array_equal(positions[0], positions[1])
    assert np.array_equal(positions[0], positions[2])
    assert positions[0][0].dtype == np.float32


def test_rewards_and_ends_follow_each_lanes_own_task() -> None:
    names = ["door", "corner", "beyond"]
    lanes = make(names, settings=PointMassConfig(horizon=4))
    lanes.reset()
    generator = np.random.default_rng(0)
    returns = np.zeros(3)
    for step in range(10):
        result = lanes.step(uniform(generator, 3))
        resets = step in (4, 9)
        ends = step in (3, 8)
        assert result.started.tolist() == [resets] * 3
        assert result.valid.tolist() == [not resets] * 3
        assert result.truncated.tolist() == [ends] * 3
        assert not result.terminated.any()
        distances = [
            float(np.hypot(*(result.observation[lane] - np.array(point_mass.TASKS[name].target))))
            for lane, name in enumerate(names)
        ]
        expected = [1.0 - distances[0] / 1.5, 1.0 - distances[1] / 1.5, float(distances[2] <= 0.3)]
        if resets:
            expected = [0.0, 0.0, 0.0]
            returns[:] = 0.0
            assert np.all(np.abs(result.observation - np.array(point_mass.START)) <= 0.0501)
        returns += expected
        assert np.allclose(result.reward, expected, atol=1e-6)
        assert [record.task for record in result.episodes] == ([0, 1, 2] if ends else [])
        if ends:
            assert [record.raw_return for record in result.episodes] == pytest.approx(returns)
            assert {record.length for record in result.episodes} == {4}


def test_success_is_of_one_episode_only() -> None:
    lanes = make(["corner"], settings=PointMassConfig(horizon=12))
    observation = lanes.reset()
    reached = []
    for step in range(26):
        good = toward(point_mass.TASKS["corner"].target, observation)
        result = lanes.step(good if step < 13 else np.zeros((1, 2), np.float32))
        observation = result.observation
        reached += [record.success for record in result.episodes]
    assert reached == [True, False]


@pytest.mark.parametrize("cut", [3, 7, 8, 9])
def test_saved_lanes_go_on_bit_for_bit(cut: int, tmp_path: object) -> None:
    settings = PointMassConfig(horizon=8, noise=0.02)
    names = ["door", "beyond"]
    lanes, other = make(names, settings=settings), make(names, settings=settings, seed=2)
    lanes.reset()
    other.reset()
    sequence = [uniform(np.random.default_rng(step), 2) for step in range(40)]
    for action in sequence[:cut]:
        lanes.step(action)
    other.restore(checkpoint.load(checkpoint.save(tmp_path, lanes.state(), step=0, keep=1)))
    for action in sequence[cut:]:
        result, again = lanes.step(action), other.step(action)
        assert np.array_equal(result.observation, again.observation)
        assert np.array_equal(result.reward, again.reward)
        assert result.episodes == again.episodes
    with pytest.raises(BadInput, match="the saved lanes play"):
        make(["door"]).restore(lanes.state())


def test_noise_moves_points_as_far_as_it_says() -> None:
    lanes = make(["door"], [0] * 5000, settings=PointMassConfig(noise=0.02))
    before = lanes.reset()
    after = lanes.step(np.zeros((5000, 2), np.float32)).observation
    assert np.std(after - before) == pytest.approx(0.02, rel=0.05)
    quiet = make(["door"])
    first = quiet.reset().copy()
    assert np.array_equal(quiet.step(np.zeros((1, 2), np.float32)).observation, first)


def test_the_seed_decides_the_starts() -> None:
    first = make(["door"], [0] * 9).reset()
    assert len(np.unique(first, axis=0)) == 9
    assert np.array_equal(first, make(["door"], [0] * 9).reset())
    assert not np.array_equal(first, make(["door"], [0] * 9, seed=2).reset())


def test_wrong_actions_name_the_task_and_the_lane() -> None:
    lanes = make(["door", "beyond"])
    lanes.reset()
    with pytest.raises(EnvironmentFailure) as caught:
        lanes.step(np.array([[0.0, 0.0], [np.nan, 0.0]], np.float32))
    assert str(caught.value) == (
        "pointmass/beyond (lane 1): number 0 of the action is nan, not in [-1, 1]."
    )
    with pytest.raises(EnvironmentFailure, match=r"need float32 actions of shape \(2, 2\)"):
        lanes.step(np.zeros(2, np.float32))


def test_names_and_suites_become_tasks_and_wrong_ones_are_told_the_nearest() -> None:
    settings = PointMassConfig()
    assert registry.resolve(["pointmass/mt3"], settings) == (
        "pointmass/door",
        "pointmass/corner",
        "pointmass/beyond",
    )
    with pytest.raises(BadInput) as caught:
        registry.resolve(["pointmass/dor"], settings)
    assert str(caught.value) == (
        "unknown task 'pointmass/dor'. Did you mean 'pointmass/door'? Available: pointmass/mt3, "
        "pointmass/door, pointmass/corner, pointmass/beyond."
    )


def test_the_picture_shows_wall_target_and_point() -> None:
    lanes = make(["beyond"])
    lanes.reset()
    picture = lanes.rgb(0)
    assert (picture.shape, picture.dtype) == ((240, 240, 3), np.uint8)
    # Rows go down as y goes up: the point is low on the left, the target high on the right.
    assert picture[192, 24].tolist() == [200, 40, 40]
    assert picture[48, 174].tolist() == [150, 210, 150]
    assert picture[200, 120].tolist() == [60, 60, 60]
    assert picture[48, 120].tolist() != [60, 60, 60]
