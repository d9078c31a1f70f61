"""What the emulator offers, and what a user reads who asks for something else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from envs.atari import catalog
from repertory.errors import BadInput

NO_SINGLE_PLAYER = ["combat", "joust", "maze_craze", "warlords"]


def test_every_single_player_game_is_there_and_no_other() -> None:
    assert len(catalog.games()) == 104
    assert not set(NO_SINGLE_PLAYER) & set(catalog.games())


@pytest.mark.parametrize("game", NO_SINGLE_PLAYER)
def test_a_game_without_a_single_player_mode_is_refused_before_its_rom_is_loaded(
    game: str,
) -> None:
    with pytest.raises(BadInput, match=f"'{game}' has no single-player mode"):
        catalog.parse(f"atari/{game}/m0d0")
    with pytest.raises(BadInput, match="would end the process"):
        catalog.modes(game)
    with pytest.raises(BadInput, match="would end the process"):
        catalog.load_game(catalog.new_emulator(), game)


def test_the_emulator_does_end_the_process_on_such_a_rom() -> None:
    printed = []
    for game in ("pong", "combat"):
        program = (
            "import ale_py; from ale_py import roms; emulator = ale_py.ALEInterface()\n"
            f"try:\n    emulator.loadROM(roms.get_rom_path('{game}'))\n"
            "except BaseException: pass\nprint('still here')"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
        printed.append("still here" in ended.stdout)
    # Should this fail one day, the emulator has learned to raise, and the filter can go.
    assert printed == [True, False]


@pytest.mark.parametrize(
    ("game", "modes", "difficulties", "count", "actions"),
    [
        ("breakout", tuple(range(0, 48, 4)), (0, 1), 24, 4),
        ("space_invaders", tuple(range(16)), (0, 1), 32, 6),
        ("bank_heist", tuple(range(0, 32, 4)), (0, 1, 2, 3), 32, 18),
        ("asteroids", (*range(32), 128), (0, 3), 66, 14),
        ("backgammon", (0,), (3,), 1, 3),
    ],
)
def test_modes_and_difficulties_are_the_emulators_own_numbers_with_their_gaps(
    game: str, modes: tuple[int, ...], difficulties: tuple[int, ...], count: int, actions: int
) -> None:
    assert catalog.modes(game) == modes
    assert catalog.difficulties(game) == difficulties
    assert len(catalog.variants(game)) == len(set(catalog.variants(game))) == count
    assert len(catalog.minimal_actions(game)) == actions


def test_a_task_and_its_name_are_one_to_one() -> None:
    for task in catalog.variants("space_invaders"):
        assert catalog.parse(task.name) == task
    assert catalog.AtariTask("space_invaders", 1, 0).name == "atari/space_invaders/m1d0"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "atari/pogn/m0d0",
            "unknown Atari game 'pogn'. Did you mean 'pong'? List: repertory tasks atari",
        ),
        (
            "atari/breakout/m1d0",
            "breakout has no mode 1; available: 0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44.",
        ),
        ("atari/asteroids/m128d1", "asteroids has no difficulty 1; available: 0, 3."),
        (
            "atari/pong/mode0",
            "'atari/pong/mode0' is not a task; tasks are written "
            "atari/<game>/m<mode>d<difficulty>, for instance atari/space_invaders/m1d0.",
        ),
        (
            "atari/pong",
            "'atari/pong' is not a task; tasks are written "
            "atari/<game>/m<mode>d<difficulty>, for instance atari/space_invaders/m1d0.",
        ),
    ],
)
def test_a_wrong_name_ends_in_one_sentence_with_what_there_is(name: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        catalog.parse(name)
    assert str(caught.value) == message


def test_one_game_plays_with_its_own_actions_and_several_with_all_18() -> None:
    assert catalog.action_set(["pong", "pong"], "auto") == catalog.minimal_actions("pong")
    assert catalog.action_set(["pong", "breakout"], "auto") == tuple(range(18))
    assert catalog.action_set(["pong"], True) == tuple(range(18))
    assert catalog.action_set(["pong"], False) == catalog.minimal_actions("pong")


def test_games_with_different_actions_cannot_share_a_minimal_set() -> None:
    with pytest.raises(BadInput) as caught:
        catalog.action_set(["pong", "breakout"], False)
    assert str(caught.value) == (
        "breakout and pong have different minimal actions (4 and 6); "
        "set environment.full_action_space to auto or true."
    )
