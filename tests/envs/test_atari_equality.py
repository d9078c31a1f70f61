"""Lanes against gymnasium's AtariPreprocessing and FrameStackObservation, byte for byte."""

from __future__ import annotations

from collections import deque

import gymnasium
import numpy as np
import pytest
from ale_py.env import AtariEnv
from gymnasium.utils import seeding as gymnasium_seeding
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from envs import registry
from envs.atari import catalog
from envs.atari.lane import AtariLane
from repertory import seeding
from repertory.config import AtariConfig

SEED = 11
PATH = ("actor", 0)


def gymnasium_env(task: catalog.AtariTask, settings: AtariConfig, full: bool) -> gymnasium.Env:
    env = AtariEnv(
        task.game,
        mode=task.mode,
        difficulty=task.difficulty,
        frameskip=1,
        repeat_action_probability=settings.repeat_action_probability,
        full_action_space=full,
        max_num_frames_per_episode=settings.max_frames,
    )
    wrapped = AtariPreprocessing(
        env,
        noop_max=settings.noop_max,
        frame_skip=settings.frame_skip,
        screen_size=settings.frame_size,
    )
    return FrameStackObservation(wrapped, settings.stack)


class NextStepReference:
    """A gymnasium environment in next-step reset order, with the streams of lane `lane`."""

    def __init__(
        self, task: catalog.AtariTask, settings: AtariConfig, lane: int, full: bool
    ) -> None:
        self.env = gymnasium_env(task, settings, full)
        atari = self.env.unwrapped
        atari.ale.setInt("random_seed", seeding.integer(SEED, *PATH, "lane", lane, "sticky"))
        atari.load_game()
        atari._np_random = seeding.stream(SEED, *PATH, "lane", lane, "noops")
        self.over = False

    def reset(self) -> np.ndarray:
        return np.asarray(self.env.reset()[0])

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, bool]:
        if self.over:
            self.over = False
            return self.reset(), 0.0, False, False, False
        observation, reward, terminated, truncated, _ = self.env.step(action)
        self.over = terminated or truncated
        return np.asarray(observation), float(reward), terminated, truncated, True


class StackedLane:
    """The slow, obvious stack: the last frames, the first of an episode repeated before it."""

    def __init__(self, depth: int, first: np.ndarray) -> None:
        self.frames: deque[np.ndarray] = deque([first.copy()] * depth, maxlen=depth)

    def push(self, frame: np.ndarray, started: bool) -> np.ndarray:
        for _ in range(self.frames.maxlen if started else 1):
            self.frames.append(frame.copy())
        return np.stack(self.frames)


def assert_equal_play(names: list[str], settings: AtariConfig, steps: int) -> dict[str, int]:
    """Play the same random actions on both; return how many of what was seen."""
    specs = registry.task_specs(names, settings, 0.99)
    actions = specs[0].action.size
    lanes = registry.make_lanes(settings, specs, range(len(specs)), seed=SEED, path=PATH)
    tasks = [catalog.parse(name) for name in names]
    references = [
        NextStepReference(task, settings, lane, full=actions == 18)
        for lane, task in enumerate(tasks)
    ]
    stacks = []
    for first, reference in zip(lanes.reset(), references, strict=True):
        stacks.append(StackedLane(settings.stack, first))
        np.testing.assert_array_equal(np.stack(stacks[-1].frames), reference.reset())
    generator = np.random.default_rng(5)
    seen = {"terminated": 0, "truncated": 0, "rewarded": 0}
    for step in range(steps):
        chosen = generator.integers(actions, size=len(names))
        result = lanes.step(chosen)
        for lane, reference in enumerate(references):
            expected, reward, terminated, truncated, valid = reference.step(int(chosen[lane]))
            where = f"{names[lane]} at step {step}"
            stack = stacks[lane].push(result.observation[lane], bool(result.started[lane]))
            assert np.array_equal(stack, expected), where
            assert result.reward[lane] == reward, where
            assert result.terminated[lane] == terminated, where
            assert result.truncated[lane] == (truncated and not terminated), where
            assert result.valid[lane] == valid, where
            assert result.started[lane] == (not valid), where
            seen["terminated"] += terminated
            seen["truncated"] += truncated
            seen["rewarded"] += reward != 0.0
    return seen


@pytest.mark.parametrize(
    ("name", "sticky", "noop_max"),
    [
        ("atari/breakout/m0d0", 0.25, 30),
        ("atari/space_invaders/m9d1", 0.0, 30),
        ("atari/bank_heist/m12d2", 0.25, 0),
        ("atari/asteroids/m31d3", 0.25, 30),
        ("atari/pong/m1d2", 0.0, 0),
    ],
)
def test_lanes_are_gymnasiums_preprocessing_to_the_byte(
    name: str, sticky: float, noop_max: int
) -> None:
    settings = AtariConfig(repeat_action_probability=sticky, noop_max=noop_max, clip_rewards=False)
    seen = assert_equal_play([name], settings, steps=1500)
    assert seen["terminated"] > 0
    assert seen["rewarded"] > 0


def test_mixed_games_in_one_process_are_gymnasiums_with_all_18_actions() -> None:
    names = ["atari/breakout/m20d1", "atari/freeway/m4d0", "atari/seaquest/m0d1"]
    seen = assert_equal_play(names, AtariConfig(clip_rewards=False), steps=500)
    assert seen["terminated"] > 0


def test_truncated_episodes_are_gymnasiums_where_the_limit_falls_between_agent_steps() -> None:
    settings = AtariConfig(clip_rewards=False, max_frames=301)
    seen = assert_equal_play(["atari/space_invaders/m0d0"], settings, steps=400)
    assert seen["truncated"] > 3


@pytest.mark.parametrize(("skip", "size", "stack"), [(1, 84, 4), (2, 42, 2), (3, 64, 1)])
def test_other_frame_skips_sizes_and_stacks_are_gymnasiums(
    skip: int, size: int, stack: int
) -> None:
    settings = AtariConfig(
        clip_rewards=False, frame_skip=skip, frame_size=size, stack=stack, max_frames=150 * skip
    )
    seen = assert_equal_play(["atari/bank_heist/m0d0"], settings, steps=300)
    assert seen["truncated"] > 0


@pytest.mark.parametrize("seed", [0, 3, 1234])
def test_a_seed_given_to_gymnasium_gives_the_same_noise_here(seed: int) -> None:
    # Gymnasium makes two words of a seed: one for its own generator, from which the wrapper draws
    # the no-ops, and one for the emulator, whose sticky actions it draws itself.
    settings = AtariConfig(clip_rewards=False, stack=1)
    task = catalog.parse("atari/breakout/m0d0")
    env = gymnasium_env(task, settings, full=False)
    expected, info = env.reset(seed=seed)
    noop_seed, sticky_seed = info["seeds"]
    lane = AtariLane(
        task,
        settings,
        catalog.minimal_actions(task.game),
        sticky_seed=int(sticky_seed),
        noops=gymnasium_seeding.np_random(int(noop_seed))[0],
    )
    frame = np.zeros((84, 84), dtype=np.uint8)
    lane.reset(frame)
    generator = np.random.default_rng(seed)
    over = False
    for _ in range(400):
        np.testing.assert_array_equal(frame, expected[0])
        action = int(generator.integers(4))
        if over:
            expected, _ = env.reset()
            lane.reset(frame)
            over = False
            continue
        expected, reward, terminated, truncated, _ = env.step(action)
        step = lane.step(action, frame)
        assert (step.reward, step.game_over, step.truncated) == (reward, terminated, truncated)
        over = terminated or truncated
