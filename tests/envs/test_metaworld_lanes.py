"""Meta-World lanes: episodes, their ends, goals, seeds, rewards and failures."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from metaworld_play import Scripted, make, play, random_actions

from envs.metaworld.goals import fixed_goals
from repertory.config import MetaworldConfig
from repertory.errors import EnvironmentFailure
from repertory.ports import Lanes

pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high:UserWarning")


def test_an_episode_is_truncated_at_the_horizon_with_its_own_last_observation() -> None:
    # The longer one goes on where the other is cut, so it shows what the last observation is.
    cut, uncut = (make(["reach"], MetaworldConfig(horizon=horizon)) for horizon in (7, 20))
    assert isinstance(cut, Lanes)
    first = cut.reset().copy()
    assert first.dtype == np.float32
    assert first.shape == (1, 39)
    assert np.array_equal(uncut.reset(), first)
    rewards = []
    for step, action in enumerate(random_actions(7, 1), start=1):
        result, expected = cut.step(action), uncut.step(action)
        rewards.append(float(result.reward[0]))
        assert np.array_equal(result.observation, expected.observation)
        assert bool(result.truncated[0]) is (step == 7)
        assert result.valid.all()
        assert not result.terminated.any()
        assert not result.started.any()
        assert not expected.truncated.any()
    (record,) = result.episodes
    assert (record.task, record.length, record.truncated) == (0, 7, True)
    assert record.raw_return == pytest.approx(sum(rewards), rel=1e-6)
    last = result.observation.copy()

    after = cut.step(np.ones((1, 4), dtype=np.float32))
    assert not after.valid.any()
    assert after.started.all()
    assert not after.truncated.any()
    assert after.reward.tolist() == [0.0]
    assert after.episodes == ()
    # The first of the next episode: the hand is back, and nothing has moved yet.
    assert not np.array_equal(after.observation, last)
    assert np.array_equal(after.observation[0, :18], after.observation[0, 18:36])
    again = cut.step(np.zeros((1, 4), dtype=np.float32))
    assert again.valid.all()
    assert not again.started.any()


def test_the_package_s_own_longest_episode_can_be_played() -> None:
    lanes = make(["window-close"], MetaworldConfig(horizon=500))
    lanes.reset()
    shown = play(lanes, random_actions(502, 1))
    lengths = [record.length for *_, records in shown for record in records]
    assert lengths == [500]


def test_a_success_that_passes_is_remembered_until_the_episode_ends() -> None:
    lanes = make(["reach", "push"], MetaworldConfig(horizon=120))
    observation = lanes.reset()
    policy = Scripted("reach")
    for step in range(120):
        action = np.zeros((2, 4), dtype=np.float32)
        # There, and away again.
        action[0] = policy(observation[0]) if step < 80 else (0.0, -1.0, 1.0, 0.0)
        result = lanes.step(action)
        observation = result.observation
        if step == 79:
            assert np.linalg.norm(observation[0, :3] - observation[0, 36:]) < 0.05
        assert bool(result.episodes) is (step == 119)
    assert np.linalg.norm(observation[0, :3] - observation[0, 36:]) > 0.1
    reached, pushed = result.episodes
    assert (reached.success, reached.truncated) == (True, True)
    assert (pushed.success, pushed.truncated) == (False, True)
    for _ in range(121):
        result = lanes.step(np.zeros((2, 4), dtype=np.float32))
    assert [record.success for record in result.episodes] == [False, False]


def test_a_success_ends_the_episode_where_it_is_asked_to() -> None:
    kept, ended = (
        make(["window-close"], MetaworldConfig(horizon=150, success_ends=ends))
        for ends in (False, True)
    )
    observation = ended.reset()
    kept.reset()
    policy = Scripted("window-close")
    for _ in range(150):
        action = policy(observation[0])[None]
        result, other = ended.step(action), kept.step(action)
        observation = result.observation
        assert not other.terminated.any()
        if result.terminated[0]:
            break
    (record,) = result.episodes
    assert 1 < record.length < 150
    assert (record.success, record.truncated) == (True, False)
    assert not result.truncated.any()
    assert np.array_equal(result.observation, other.observation)
    assert ended.step(action).started.all()
    assert not kept.step(action).started.any()


def test_a_success_at_the_horizon_is_an_end_and_no_cut() -> None:
    lanes = make(["window-close"], MetaworldConfig(horizon=150, success_ends=True))
    observation = lanes.reset()
    policy = Scripted("window-close")
    actions = []
    while True:
        actions.append(policy(observation[0])[None])
        result = lanes.step(actions[-1])
        observation = result.observation
        if result.terminated[0]:
            break
    exact = make(["window-close"], MetaworldConfig(horizon=len(actions), success_ends=True))
    exact.reset()
    for action in actions:
        result = exact.step(action)
    assert (bool(result.terminated[0]), bool(result.truncated[0])) == (True, False)
    assert not result.episodes[0].truncated


def test_the_two_reward_versions_differ_and_the_worlds_do_not() -> None:
    first, second = (
        make(["pick-place"], MetaworldConfig.model_validate({"reward_version": version}))
        for version in ("v1", "v2")
    )
    assert np.array_equal(first.reset(), second.reset())
    for action in random_actions(10, 1):
        ours, other = first.step(action), second.step(action)
        assert np.array_equal(ours.observation, other.observation)
        assert ours.reward[0] != other.reward[0]
        assert 0 <= other.reward[0] <= 10


def test_fixed_goals_are_drawn_from_the_benchmark_s_fifty() -> None:
    lanes = make(["reach"], MetaworldConfig(horizon=1), seed=4)
    # A goal of reach is where the object lies and where the hand must go; the latter is shown.
    fifty = {goal[3:].astype(np.float32).tobytes() for goal in fixed_goals("reach-v3", 4)}
    drawn = _goals_drawn(lanes, 80)
    assert set(drawn) <= fifty
    assert 25 < len(set(drawn)) <= 50
    assert drawn[:10] != drawn[10:20]


def test_fresh_goals_never_come_twice() -> None:
    lanes = make(["reach"], MetaworldConfig(horizon=1, goals="fresh"), seed=4)
    fifty = {goal[3:].astype(np.float32).tobytes() for goal in fixed_goals("reach-v3", 4)}
    drawn = _goals_drawn(lanes, 30)
    assert len(set(drawn)) == 30
    assert not set(drawn) & fifty


@pytest.mark.parametrize("goals", ["fixed", "fresh"])
def test_two_lanes_of_one_task_differ_and_one_seed_repeats(goals: str) -> None:
    settings = MetaworldConfig.model_validate({"horizon": 5, "goals": goals})
    lanes = make(["push"], settings, lanes=[0, 0])
    first = lanes.reset().copy()
    assert not np.array_equal(first[0], first[1])
    assert lanes.task.tolist() == [0, 0]
    actions = random_actions(20, 2)
    shown = play(lanes, actions)

    repeated = make(["push"], settings, lanes=[0, 0])
    assert np.array_equal(repeated.reset(), first)
    assert play(repeated, actions) == shown
    for other in (make(["push"], settings, lanes=[0, 0], path=("actor", 1)),):
        assert not np.array_equal(other.reset(), first)
        assert play(other, actions) != shown


def test_workers_share_the_fixed_goals_of_the_run() -> None:
    settings = MetaworldConfig(horizon=1)
    drawn = [
        set(_goals_drawn(make(["reach"], settings, path=(part, 0)), 150))
        for part in ("actor", "evaluator")
    ]
    assert len(drawn[0] | drawn[1]) <= 50


def test_actions_are_clipped() -> None:
    lanes, clipped = make(["reach"]), make(["reach"])
    lanes.reset()
    clipped.reset()
    for action in 3 * random_actions(15, 1):
        ours, other = lanes.step(action), clipped.step(np.clip(action, -1, 1))
        assert np.array_equal(ours.observation, other.observation)
        assert ours.reward[0] == other.reward[0]


def test_an_action_that_is_no_number_fails_with_task_and_lane() -> None:
    lanes = make(["reach", "push"])
    lanes.reset()
    action = np.zeros((2, 4), dtype=np.float32)
    action[1, 2] = np.nan
    with pytest.raises(EnvironmentFailure, match=r"metaworld/push \(lane 1\).*not finite"):
        lanes.step(action)


@pytest.mark.parametrize(
    "action",
    [
        np.zeros((2, 3), dtype=np.float32),
        np.zeros((1, 4), dtype=np.float32),
        np.zeros(4, dtype=np.float32),
        np.zeros((2, 4), dtype=np.int64),
    ],
)
def test_an_action_of_the_wrong_shape_or_kind_fails(action: np.ndarray) -> None:
    lanes = make(["reach", "push"])
    lanes.reset()
    with pytest.raises(EnvironmentFailure, match="metaworld/reach, metaworld/push"):
        lanes.step(action)


@pytest.mark.parametrize("fast", [True, False])
def test_a_simulation_that_breaks_down_fails_with_task_and_lane(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The simulator notes its warning in a file where it runs.
    monkeypatch.chdir(tmp_path)
    lanes = make(["reach", "push"], MetaworldConfig(fast=fast))
    lanes.reset()
    action = np.zeros((2, 4), dtype=np.float32)
    lanes.step(action)
    state = lanes.state()
    # The fourth number of the integration state is a joint's position (the first is the time).
    state["lanes"][1]["physics"][3] = np.inf
    lanes.restore(state)
    with pytest.raises(EnvironmentFailure, match=r"metaworld/push \(lane 1\)"):
        lanes.step(action)


def test_a_lane_can_be_seen_or_says_what_is_missing() -> None:
    # The renderer is chosen when the simulator is first imported, hence processes of their own.
    check = (
        "from envs import registry\n"
        "from repertory.config import MetaworldConfig\n"
        "from repertory.errors import BadInput\n"
        "settings = MetaworldConfig()\n"
        "specs = registry.task_specs(['metaworld/reach'], settings, 0.99)\n"
        "lanes = registry.make_lanes(settings, specs, [0], seed=1, path=())\n"
        "lanes.reset()\n"
        "try:\n"
        "    picture = lanes.rgb(0, 64, 96)\n"
        "    print(picture.shape, picture.dtype, picture.std() > 1)\n"
        "except BadInput as error:\n"
        "    print(error)\n"
        "lanes.close()\n"
    )
    answers = {}
    for library in ("", "disabled"):
        environment = {**os.environ, "MUJOCO_GL": library, "DISPLAY": ""}
        done = subprocess.run(
            [sys.executable, "-c", check], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Exception ignored" not in done.stderr
        answers[library] = done.stdout.strip()
    # Training without graphics (disabled) does not keep a film from being asked for.
    for answer in answers.values():
        assert answer == "(64, 96, 3) uint8 True" or answer.startswith("cannot draw")


def test_a_library_that_does_not_exist_is_named() -> None:
    check = (
        "from repertory.errors import BadInput\n"
        "try:\n"
        "    import envs.metaworld.lanes\n"
        "except BadInput as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("Meta-World cannot be loaded with MUJOCO_GL=nonsense: use egl")


def _goals_drawn(lanes: Lanes, episodes: int) -> list[bytes]:
    drawn = [lanes.reset()[0, 36:].tobytes()]
    action = np.zeros((1, 4), dtype=np.float32)
    while len(drawn) < episodes:
        result = lanes.step(action)
        if result.started[0]:
            drawn.append(result.observation[0, 36:].tobytes())
    return drawn


@pytest.mark.parametrize("fast", [True, False])
def test_closed_lanes_leave_no_simulation_behind(fast: bool) -> None:
    lanes = make(["reach"], MetaworldConfig(fast=fast))
    lanes.reset()
    lanes.step(np.zeros((1, 4), dtype=np.float32))
    data = weakref.ref(lanes._lanes[0].environment.data)  # type: ignore[attr-defined]
    lanes.close()
    del lanes
    gc.collect()
    assert data() is None
