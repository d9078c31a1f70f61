"""A lane's state, saved and taken up, and the start of a game, restored instead of reset."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from atari_play import copied, make, play, random_actions

from envs import registry
from envs.atari import catalog
from envs.atari.lane import REPEATABLE_RESETS
from repertory.config import AtariConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.state_tree import flatten, unflatten


@pytest.mark.parametrize("before", [40, 333])
def test_a_restored_state_goes_on_to_the_bit(before: int) -> None:
    names = [
        "atari/breakout/m36d1",
        "atari/space_invaders/m5d1",
        "atari/bank_heist/m4d3",
        "atari/asteroids/m7d3",
        "atari/qbert/m0d0",
    ]
    settings = AtariConfig(life_loss_ends=True)
    lanes = make(names, settings)
    lanes.reset()
    play(lanes, random_actions(before, 5, 18))
    state = lanes.state()
    pictures = [lanes.rgb(lane) for lane in range(5)]
    rest = random_actions(250, 5, 18, seed=1)
    expected = play(lanes, rest)

    resumed = make(names, settings, seed=77)
    resumed.reset()
    play(resumed, random_actions(21, 5, 18, seed=2))
    arrays, tree = flatten(state)
    resumed.restore(unflatten(json.loads(json.dumps(tree)), arrays))
    for lane, picture in enumerate(pictures):
        assert np.array_equal(resumed.rgb(lane), picture)
    assert play(resumed, rest) == expected
    assert any(record for *_, records in expected for record in records)
    for lane in range(5):
        assert np.array_equal(resumed.rgb(lane), lanes.rgb(lane))


def test_a_restored_lane_holds_the_action_that_it_held() -> None:
    # Nine of ten frames repeat, so that the action before the state decides what comes after it.
    settings = AtariConfig(repeat_action_probability=0.9)
    specs = registry.task_specs(["atari/freeway/m0d0"], settings, 0.99)
    lanes, resumed = (
        registry.make_lanes(settings, specs, [0] * 6, seed=seed, path=()) for seed in (1, 2)
    )
    lanes.reset()
    for action in random_actions(30, 6, 3):
        lanes.step(action)
    resumed.reset()
    resumed.restore(lanes.state())
    for action in random_actions(40, 6, 3, seed=1):
        assert copied(lanes.step(action)) == copied(resumed.step(action))


def test_a_state_between_an_end_and_its_reset_goes_on_to_the_bit() -> None:
    lanes = make(["atari/breakout/m0d0"], AtariConfig())
    lanes.reset()
    while not lanes.step(np.array([1])).episodes:
        pass
    state = lanes.state()
    rest = random_actions(150, 1, 4)
    expected = play(lanes, rest)
    resumed = make(["atari/breakout/m0d0"], AtariConfig(), seed=5)
    resumed.reset()
    resumed.restore(state)
    assert play(resumed, rest) == expected


def test_taking_a_state_changes_nothing() -> None:
    watched, plain = (make(["atari/breakout/m0d0"], AtariConfig()) for _ in range(2))
    watched.reset()
    plain.reset()
    for action in random_actions(100, 1, 4):
        watched.state()
        assert copied(watched.step(action)) == copied(plain.step(action))


def test_a_state_of_other_tasks_is_refused() -> None:
    lanes = make(["atari/breakout/m0d0"], AtariConfig())
    other = make(["atari/breakout/m4d0"], AtariConfig())
    lanes.reset()
    with pytest.raises(BadInput) as caught:
        other.restore(lanes.state())
    assert str(caught.value) == (
        "the saved lanes play ['atari/breakout/m0d0'], these lanes play ['atari/breakout/m4d0']."
    )


def test_an_error_inside_a_lane_names_its_task() -> None:
    lanes = make(["atari/breakout/m0d0", "atari/breakout/m4d1"], AtariConfig())
    lanes.reset()
    state = lanes.state()
    state["lanes"][1]["lives"] = "three"
    with pytest.raises(EnvironmentFailure) as caught:
        lanes.restore(state)
    assert str(caught.value).startswith("atari/breakout/m4d1 (lane 1) failed: ValueError: ")


def played(emulator: Any, frames: int, seed: int = 0) -> list[Any]:
    """Act at random and return what was seen of every frame."""
    actions = emulator.getMinimalActionSet()
    seen = []
    for index in np.random.default_rng(seed).integers(len(actions), size=frames):
        reward = emulator.act(actions[index])
        seen.append((reward, emulator.lives(), emulator.getScreen().tobytes()))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("game", sorted(REPEATABLE_RESETS))
def test_in_every_variant_restoring_the_first_start_is_resetting_the_game(game: str) -> None:
    generator = np.random.default_rng(0)
    for task in catalog.variants(game):
        emulator = catalog.new_emulator()
        emulator.setInt("random_seed", 1)
        emulator.setFloat("repeat_action_probability", 0.0)
        catalog.load_game(emulator, game)
        emulator.setMode(task.mode)
        emulator.setDifficulty(task.difficulty)
        emulator.reset_game()
        start = emulator.cloneState()
        first = emulator.getScreen()
        for trial in range(3):
            played(emulator, int(generator.integers(1, 900)), seed=trial)
            emulator.reset_game()
            assert np.array_equal(emulator.getScreen(), first), task.name
            expected = played(emulator, 40)
            played(emulator, int(generator.integers(1, 60)), seed=trial)
            emulator.restoreState(start)
            assert played(emulator, 40) == expected, task.name
