"""What lanes promise beyond equal pixels: ends, seeds, returns, errors."""

from __future__ import annotations

import numpy as np
import pytest
from atari_play import copied, make, play, random_actions

from envs import registry
from envs.atari import catalog
from envs.atari.lanes import AtariLanes
from envs.atari.noise import StickyActions
from repertory.config import AtariConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.types import ActionSpec, EpisodeRecord


def test_the_step_after_an_end_is_dead_whatever_its_action() -> None:
    settings = AtariConfig(noop_max=5)
    lanes, others = (make(["atari/breakout/m0d0"], settings) for _ in range(2))
    assert np.array_equal(lanes.reset(), others.reset())
    dead = 0
    over = False
    for action in random_actions(500, 1, 4):
        result = lanes.step(action)
        other = others.step((action + 1) % 4 if over else action)
        assert copied(result) == copied(other)
        if over:
            dead += 1
            assert not result.valid[0]
            assert result.started[0]
            assert result.reward[0] == 0.0
            assert not result.terminated[0]
            assert not result.truncated[0]
        else:
            assert result.valid[0]
            assert not result.started[0]
        over = bool(result.terminated[0] or result.truncated[0])
        assert over == bool(result.episodes)
    assert dead >= 2


def test_a_lost_life_ends_the_return_and_nothing_else() -> None:
    plain = make(["atari/breakout/m0d0"], AtariConfig())
    ending = make(["atari/breakout/m0d0"], AtariConfig(life_loss_ends=True))
    plain.reset()
    ending.reset()
    life_ends = game_ends = 0
    records: list[EpisodeRecord] = []
    for action in random_actions(600, 1, 4):
        result, with_ends = plain.step(action), ending.step(action)
        assert np.array_equal(result.observation, with_ends.observation)
        assert result.valid[0] == with_ends.valid[0]
        assert result.episodes == with_ends.episodes
        assert result.terminated[0] <= with_ends.terminated[0]
        life_ends += int(with_ends.terminated[0] and not result.terminated[0])
        game_ends += int(result.terminated[0])
        records += result.episodes
    assert game_ends >= 2
    # Five lives: the fifth ends the game.
    assert 4 * game_ends <= life_ends <= 4 * game_ends + 4
    assert all(record.lives_lost == 5 for record in records)


def test_a_time_limit_truncates_and_does_not_terminate() -> None:
    lanes = make(["atari/pong/m0d0"], AtariConfig(max_frames=200, noop_max=0))
    lanes.reset()
    for step in range(1, 104):
        result = lanes.step(np.array([0]))
        assert not result.terminated[0]
        assert result.truncated[0] == (step in (50, 101))
        assert result.valid[0] == (step != 51 and step != 102)
        if step == 50:
            assert [(e.length, e.truncated) for e in result.episodes] == [(50, True)]


def test_a_life_lost_in_the_last_step_before_the_limit_is_an_end_of_the_return() -> None:
    plain = make(["atari/breakout/m0d0"], AtariConfig(life_loss_ends=True, noop_max=0))
    plain.reset()
    actions = random_actions(200, 1, 4)
    lost = next(step for step, a in enumerate(actions, 1) if plain.step(a).terminated[0])
    settings = AtariConfig(life_loss_ends=True, noop_max=0, max_frames=4 * lost)
    limited = make(["atari/breakout/m0d0"], settings)
    limited.reset()
    for action in actions[:lost]:
        result = limited.step(action)
    assert result.terminated[0]
    assert not result.truncated[0]
    assert [episode.truncated for episode in result.episodes] == [True]
    assert not limited.step(np.array([0])).valid[0]


def test_lanes_made_together_do_not_share_their_sticky_actions() -> None:
    names = ["atari/breakout/m0d0"]
    settings = AtariConfig(noop_max=0)
    specs = registry.task_specs(names, settings, 0.99)
    lanes = AtariLanes(specs, [0] * 8, settings, seed=1, path=("actor", 0))
    first = lanes.reset()
    assert all(np.array_equal(first[0], frame) for frame in first)
    screens: list[list[bytes]] = [[] for _ in range(8)]
    for action in random_actions(60, 1, 4):
        result = lanes.step(np.repeat(action, 8))
        for lane, frame in enumerate(result.observation):
            screens[lane].append(frame.tobytes())
    assert len({tuple(seen) for seen in screens}) == 8


def test_the_seed_and_the_path_decide_everything() -> None:
    names = ["atari/space_invaders/m0d0"]
    actions = random_actions(80, 1, 6)
    played = []
    for seed, path in [(1, ("actor", 0)), (1, ("actor", 0)), (2, ("actor", 0)), (1, ("actor", 1))]:
        lanes = make(names, AtariConfig(), seed=seed, path=path)
        lanes.reset()
        played.append(play(lanes, actions))
    assert played[0] == played[1]
    assert played[0] != played[2]
    assert played[0] != played[3]


def test_sticky_actions_repeat_at_their_rate() -> None:
    for probability in (0.0, 0.25, 1.0):
        sticky = StickyActions(probability, seed=3)
        repeated = [sticky.ensure(1).pop() for _ in range(20_000)]
        assert np.mean(repeated) == pytest.approx(probability, abs=0.02)


def test_returns_are_raw_where_rewards_are_clipped() -> None:
    names = ["atari/space_invaders/m0d0"]
    clipped = make(names, AtariConfig(clip_rewards=True))
    raw = make(names, AtariConfig(clip_rewards=False))
    clipped.reset()
    raw.reset()
    total = shown = 0.0
    for action in random_actions(2000, 1, 6):
        result, raw_result = clipped.step(action), raw.step(action)
        assert result.reward[0] == np.sign(raw_result.reward[0])
        assert result.episodes == raw_result.episodes
        total += float(raw_result.reward[0])
        shown += float(result.reward[0])
        if result.episodes:
            break
    assert result.episodes[0].raw_return == total
    assert total > 2 * shown > 0


def test_length_counts_the_steps_that_were_played() -> None:
    lanes = make(["atari/breakout/m0d0"], AtariConfig())
    lanes.reset()
    valid = 0
    lengths = []
    for action in random_actions(500, 1, 4):
        result = lanes.step(action)
        valid += int(result.valid[0])
        lengths += [(episode.length, valid) for episode in result.episodes]
    assert len(lengths) >= 2
    assert [sum(length for length, _ in lengths[: i + 1]) for i in range(len(lengths))] == [
        valid for _, valid in lengths
    ]


def test_fire_reset_starts_games_that_wait_for_the_button() -> None:
    lives_lost = []
    for fire in (False, True):
        settings = AtariConfig(fire_reset=fire, repeat_action_probability=0.0, max_frames=1200)
        lanes = make(["atari/breakout/m0d0"], settings)
        lanes.reset()
        lost = 0
        for _ in range(400):
            lost += sum(episode.lives_lost for episode in lanes.step(np.array([0])).episodes)
        lives_lost.append(lost)
    assert lives_lost[0] == 0
    assert lives_lost[1] > 0


def test_fire_reset_leaves_games_without_the_button_alone() -> None:
    assert 1 not in catalog.minimal_actions("freeway")
    firsts = [
        make(["atari/freeway/m0d0"], AtariConfig(fire_reset=fire)).reset() for fire in (False, True)
    ]
    assert np.array_equal(*firsts)


def test_noops_are_between_one_and_the_maximum_and_zero_plays_none() -> None:
    # A game clock of frames: with a limit of n frames, an episode after k no-ops has n - k left.
    lengths = set()
    settings = AtariConfig(noop_max=4, frame_skip=1, max_frames=20)
    lanes = make(["atari/pong/m0d0"], settings)
    lanes.reset()
    for _ in range(600):
        lengths |= {episode.length for episode in lanes.step(np.array([0])).episodes}
    assert lengths == {16, 17, 18, 19}
    none = make(["atari/pong/m0d0"], AtariConfig(noop_max=0, frame_skip=1, max_frames=20))
    none.reset()
    assert not any(none.step(np.array([0])).episodes for _ in range(19))
    assert none.step(np.array([0])).episodes[0].length == 20


def test_the_picture_is_the_emulators_screen_in_colour() -> None:
    lanes = make(["atari/breakout/m0d0"], AtariConfig())
    lanes.reset()
    lanes.step(np.array([1]))
    picture = lanes.rgb(0)
    assert picture.shape == (210, 160, 3)
    assert picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5


def test_observations_are_one_contiguous_block_of_single_frames() -> None:
    lanes = make(["atari/breakout/m0d0", "atari/breakout/m4d0"], AtariConfig())
    first = lanes.reset()
    assert first.shape == (2, 84, 84)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert lanes.task.tolist() == [0, 1]


@pytest.mark.parametrize("bad", [4, -1])
def test_an_action_out_of_range_names_the_task_and_the_range(bad: int) -> None:
    lanes = make(["atari/breakout/m0d0", "atari/breakout/m4d1"], AtariConfig())
    lanes.reset()
    with pytest.raises(EnvironmentFailure) as caught:
        lanes.step(np.array([0, bad]))
    assert str(caught.value) == f"atari/breakout/m4d1 (lane 1): action {bad} is not one of 0 to 3."


@pytest.mark.parametrize("action", [np.array([0]), np.array([0.0, 1.0]), np.array([[0, 1]])])
def test_actions_are_one_integer_per_lane(action: np.ndarray) -> None:
    lanes = make(["atari/breakout/m0d0", "atari/breakout/m4d1"], AtariConfig())
    lanes.reset()
    with pytest.raises(EnvironmentFailure, match="need one integer action for each of 2 lanes"):
        lanes.step(action)


def test_a_policy_of_another_size_is_refused() -> None:
    settings = AtariConfig()
    specs = registry.task_specs(["atari/breakout/m0d0"], settings, 0.99, ActionSpec("discrete", 6))
    with pytest.raises(BadInput) as caught:
        registry.make_lanes(settings, specs, [0], seed=1, path=())
    assert str(caught.value) == ("breakout can be played with its 4 actions or all 18, not with 6.")


@pytest.mark.parametrize("fire_reset", [True, False])
def test_with_fire_reset_a_game_that_waits_for_fire_goes_on_after_a_lost_life(
    fire_reset: bool,
) -> None:
    settings = AtariConfig(fire_reset=fire_reset, repeat_action_probability=0.0, noop_max=0)
    specs = registry.task_specs(["atari/breakout/m0d0"], settings, 0.99)
    lanes = registry.make_lanes(settings, specs, [0], seed=1, path=("fire",))
    lanes.reset()
    finished = [lanes.step(np.zeros(1, np.int64)).episodes for _ in range(400)]
    # Nobody moves the paddle or presses FIRE: the balls are lost one after another, or never come.
    assert any(finished) == fire_reset
