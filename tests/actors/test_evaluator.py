"""Evaluation plays exactly the episodes asked for, each with its own seed; returns are raw."""

from __future__ import annotations

import numpy as np
import pytest

from actors.evaluator import TaskScore, play_episodes
from actors.policy import RandomPolicy
from envs.registry import make_lanes, task_specs
from repertory.config import AtariConfig, CountingConfig
from repertory.ports import Lanes
from repertory.seeding import stream

NAMES = ("counting/0", "counting/2")


def counting_scores(*, episodes: int, slots: int, max_steps: int = 100) -> list[TaskScore]:
    settings = CountingConfig(truncate_every=0)
    specs = task_specs(NAMES, settings, 0.99)

    def make(position: int, episode: int) -> Lanes:
        return make_lanes(settings, specs, [position], seed=1, path=("test", episode))

    policy = RandomPolicy(specs[0].action, stream(1, "policy"))
    return play_episodes(
        policy,
        specs,
        make,
        episodes=episodes,
        slots=slots,
        max_steps=max_steps,
        policy_name="random",
    )


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_every_task_plays_its_episodes_whatever_the_number_of_slots(slots: int) -> None:
    first, second = counting_scores(episodes=5, slots=slots)
    assert (first.task, second.task) == NAMES
    assert first.returns == (21.0,) * 5
    assert second.returns == (36.0,) * 5
    assert first.lengths == (7,) * 5
    assert second.lengths == (9,) * 5
    assert first.cut == second.cut == 0
    assert first.mean == 21.0
    assert first.standard_error == 0.0


def test_an_episode_at_the_step_limit_counts_as_it_stands_and_is_marked() -> None:
    first, second = counting_scores(episodes=2, slots=4, max_steps=8)
    assert first.cut == 0
    assert second.cut == 2
    assert second.lengths == (8, 8)
    assert second.returns == (28.0, 28.0)


def test_a_single_episode_has_no_standard_error() -> None:
    assert np.isnan(counting_scores(episodes=1, slots=1)[0].standard_error)


def test_an_evaluation_that_is_told_to_stop_reports_nothing() -> None:
    settings = CountingConfig()
    specs = task_specs(NAMES, settings, 0.99)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    scores = play_episodes(
        RandomPolicy(specs[0].action, stream(1, "policy")),
        specs,
        lambda position, episode: make_lanes(
            settings, specs, [position], seed=1, path=("test", episode)
        ),
        episodes=50,
        slots=2,
        max_steps=100,
        policy_name="random",
        should_stop=stop,
    )
    assert scores == []
    assert len(asked) == 4


def test_the_same_seed_plays_the_same_games_and_another_seed_others() -> None:
    settings = AtariConfig(max_frames=2_000, clip_rewards=False)
    specs = task_specs(["atari/breakout/m16d0"], settings, 0.99)

    def returns(seed: int) -> tuple[float, ...]:
        (score,) = play_episodes(
            RandomPolicy(specs[0].action, stream(seed, "policy")),
            specs,
            lambda position, episode: make_lanes(
                settings, specs, [position], seed=seed, path=("test", episode)
            ),
            episodes=6,
            slots=3,
            max_steps=500,
            policy_name="random",
        )
        return score.returns

    first = returns(1)
    assert returns(1) == first
    assert returns(2) != first
    assert len(set(first)) > 1
