"""A lane's state, saved through the checkpoint's tree and taken up to the bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from metaworld_play import make, play, random_actions

from envs.metaworld.catalog import MT50
from repertory.config import MetaworldConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import State
from repertory.state_tree import flatten, unflatten

# Objects that are windows on the simulation, joints set by resets, two objects, moved boxes.
SAMPLE = ["pick-place", "drawer-open", "window-open", "hammer", "sweep", "box-close"]


@pytest.mark.parametrize(
    ("before", "goals"), [(0, "fixed"), (23, "fixed"), (30, "fixed"), (23, "fresh")]
)
def test_a_restored_state_goes_on_to_the_bit(before: int, goals: str) -> None:
    settings = MetaworldConfig.model_validate({"horizon": 30, "goals": goals})
    _check(SAMPLE, settings, before, other=settings)


@pytest.mark.parametrize("fast", [True, False])
def test_a_state_can_be_taken_up_with_or_without_the_fast_path(fast: bool) -> None:
    settings = MetaworldConfig(horizon=30, fast=fast)
    _check(["push", "drawer-open"], settings, 12, other=MetaworldConfig(horizon=30, fast=not fast))


@pytest.mark.slow
@pytest.mark.parametrize("reward_version", ["v1", "v2"])
@pytest.mark.parametrize("name", MT50)
def test_a_restored_state_goes_on_to_the_bit_in_every_task(name: str, reward_version: str) -> None:
    settings = MetaworldConfig.model_validate({"horizon": 30, "reward_version": reward_version})
    _check([name], settings, 70, other=settings)


@pytest.mark.parametrize("name", ["pick-place", "box-close"])
def test_every_attribute_comes_back_as_what_it_was(name: str) -> None:
    lanes, other = (make([name], path=(part,)) for part in ("one", "other"))
    lanes.reset()
    play(lanes, random_actions(5, 1))
    other.restore(_through_a_file(lanes.state()))
    saved, restored = (vars(one._lanes[0].environment) for one in (lanes, other))
    kinds = (np.ndarray, np.generic, float, int, bool, type(None))
    names = {key for key, value in saved.items() if isinstance(value, kinds)}
    assert {type(saved[key]) for key in names} >= {np.ndarray, np.float64, float, int, bool}
    moving = 0
    for key in names:
        assert type(restored[key]) is type(saved[key]), key
        assert np.array_equal(restored[key], saved[key], equal_nan=False), key
        if isinstance(saved[key], np.ndarray):
            # What moves with the simulation does so again.
            moves = np.shares_memory(saved[key], saved["data"].xpos)
            assert np.shares_memory(restored[key], restored["data"].xpos) is moves, key
            moving += moves
    assert moving


def test_the_goals_are_part_of_the_state() -> None:
    settings = MetaworldConfig(horizon=2)
    lanes, other = (make(["reach"], settings, seed=seed) for seed in (1, 77))
    lanes.reset()
    other.restore(lanes.state())
    actions = random_actions(30, 1)
    assert play(other, actions) == play(lanes, actions)


def test_resuming_does_not_share_memory_with_the_saved_state() -> None:
    lanes = make(["push"])
    lanes.reset()
    play(lanes, random_actions(5, 1))
    state = lanes.state()
    arrays, tree = flatten(state)
    kept = {name: array.copy() for name, array in arrays.items()}
    play(lanes, random_actions(5, 1))
    lanes.restore(state)
    play(lanes, random_actions(5, 1))
    for name, array in flatten(state)[0].items():
        assert array.tobytes() == kept[name].tobytes()
    assert tree == flatten(state)[1]


def test_a_state_of_other_tasks_is_refused() -> None:
    lanes = make(["push"])
    lanes.reset()
    with pytest.raises(BadInput, match=r"metaworld/push.*metaworld/reach"):
        make(["reach"]).restore(lanes.state())


def test_a_state_of_the_other_kind_of_goals_is_refused() -> None:
    lanes = make(["push"])
    lanes.reset()
    with pytest.raises(EnvironmentFailure, match=r"metaworld/push \(lane 0\).*kind of goals"):
        make(["push"], MetaworldConfig(goals="fresh")).restore(lanes.state())


def _check(
    names: list[str], settings: MetaworldConfig, before: int, other: MetaworldConfig
) -> None:
    lanes = make(names, settings)
    lanes.reset()
    play(lanes, random_actions(before, len(names)))
    state = _through_a_file(lanes.state())
    rest = random_actions(65, len(names), seed=1)
    expected = play(lanes, rest)
    assert any(records for *_, records in expected)

    played = make(names, other, path=("elsewhere",))
    played.reset()
    play(played, random_actions(17, len(names), seed=2))
    untouched = make(names, other, path=())
    for resumed in (played, untouched):
        resumed.restore(state)
        assert play(resumed, rest) == expected
        assert np.array_equal(
            resumed.state()["lanes"][0]["physics"], lanes.state()["lanes"][0]["physics"]
        )


def _through_a_file(state: State) -> State:
    arrays, tree = flatten(state)
    restored: State = unflatten(json.loads(json.dumps(tree)), arrays)
    return restored
