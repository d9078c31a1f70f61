"""Which Atari games and variants there are, as the emulator tells it, and how they are named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import ale_py
from ale_py import roms

from repertory.errors import BadInput, EnvironmentFailure, did_you_mean

GRAMMAR = "atari/<game>/m<mode>d<difficulty>, for instance atari/space_invaders/m1d0"
FULL_ACTIONS = tuple(range(18))
"""Every joystick position with and without the button, in the emulator's numbering."""

# They have no single-player mode, and loading one ends the process without an exception.
_ENDS_THE_PROCESS = frozenset({"combat", "joust", "maze_craze", "warlords"})
_VARIANT = re.compile(r"m([0-9]+)d([0-9]+)")


@dataclass(frozen=True, slots=True, order=True)
class AtariTask:
    """One game in one mode at one difficulty."""

    game: str
    mode: int
    difficulty: int

    @property
    def name(self) -> str:
        """The task's name everywhere: atari/space_invaders/m1d0."""
        return f"atari/{self.game}/m{self.mode}d{self.difficulty}"


@dataclass(frozen=True, slots=True)
class _Facts:
    modes: tuple[int, ...]
    difficulties: tuple[int, ...]
    minimal_actions: tuple[int, ...]


def new_emulator() -> Any:
    """Return an emulator that prints no banner and logs errors only."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py.ALEInterface()


def load_game(emulator: Any, game: str) -> None:
    """Load a game's ROM, by its checked name: the wrong ROM ends the process.

    Settings and the random seed take effect here; the mode goes back to the default.
    """
    check_game(game)
    try:
        emulator.loadROM(roms.get_rom_path(game))
    except (OSError, RuntimeError) as error:
        raise EnvironmentFailure(
            f"the ROM of '{game}' of ale-py {ale_py.__version__} cannot be read: {error}"
        ) from error


@cache
def games() -> tuple[str, ...]:
    """Return all games that can be played alone, sorted."""
    return tuple(sorted(set(roms.get_all_rom_ids()) - _ENDS_THE_PROCESS))


def check_game(game: str) -> None:
    """Raise BadInput unless `game` can be loaded."""
    if game in _ENDS_THE_PROCESS:
        raise BadInput(
            f"Atari game '{game}' has no single-player mode, and its ROM would end the process; "
            "choose another game."
        )
    if not re.fullmatch(r"[\w -]+", game):
        raise BadInput(f"'atari/{game}' is not a task; tasks are written {GRAMMAR}.")
    if game not in games():
        raise BadInput(
            f"unknown Atari game '{game}'.{did_you_mean(game, games())} List: repertory tasks atari"
        )


@cache
def _facts(game: str) -> _Facts:
    emulator = new_emulator()
    emulator.setInt("random_seed", 0)
    load_game(emulator, game)
    return _Facts(
        modes=tuple(int(mode) for mode in emulator.getAvailableModes()),
        difficulties=tuple(int(value) for value in emulator.getAvailableDifficulties()),
        minimal_actions=tuple(action.value for action in emulator.getMinimalActionSet()),
    )


def modes(game: str) -> tuple[int, ...]:
    """Return the game's modes: opaque numbers with gaps."""
    return _facts(game).modes


def difficulties(game: str) -> tuple[int, ...]:
    """Return the game's difficulties: opaque numbers with gaps."""
    return _facts(game).difficulties


def minimal_actions(game: str) -> tuple[int, ...]:
    """Return the actions that do something in the game, in the emulator's numbering of the 18."""
    return _facts(game).minimal_actions


def variants(game: str) -> tuple[AtariTask, ...]:
    """Return every mode at every difficulty, modes first."""
    facts = _facts(game)
    return tuple(
        AtariTask(game, mode, difficulty)
        for mode in facts.modes
        for difficulty in facts.difficulties
    )


def variant(game: str, text: str) -> AtariTask:
    """Return the task of `text`, such as m1d0, or raise BadInput with what the game has."""
    check_game(game)
    match = _VARIANT.fullmatch(text)
    if match is None:
        raise BadInput(f"'atari/{game}/{text}' is not a task; tasks are written {GRAMMAR}.")
    mode, difficulty = int(match[1]), int(match[2])
    if mode not in modes(game):
        raise BadInput(f"{game} has no mode {mode}; available: {_listed(modes(game))}.")
    if difficulty not in difficulties(game):
        raise BadInput(
            f"{game} has no difficulty {difficulty}; available: {_listed(difficulties(game))}."
        )
    return AtariTask(game, mode, difficulty)


def parse(name: str) -> AtariTask:
    """Return the task that `name` names.

    Raises:
        BadInput: the name is malformed, or the emulator has no such game, mode or difficulty.
    """
    match name.split("/"):
        case ["atari", game, text]:
            return variant(game, text)
        case _:
            raise BadInput(f"'{name}' is not a task; tasks are written {GRAMMAR}.")


def action_set(played: Iterable[str], full: bool | str) -> tuple[int, ...]:
    """Return the one action set of a run of these games, in the emulator's numbering.

    `full` is AtariConfig.full_action_space: `auto` gives one game its minimal set and several
    games all 18.

    Raises:
        BadInput: minimal sets are asked for and they differ.
    """
    names = sorted(set(played))
    if full is True or (full == "auto" and len(names) != 1):
        return FULL_ACTIONS
    first = minimal_actions(names[0])
    for other in names[1:]:
        if minimal_actions(other) != first:
            raise BadInput(
                f"{names[0]} and {other} have different minimal actions ({len(first)} and "
                f"{len(minimal_actions(other))}); set environment.full_action_space to auto or "
                "true."
            )
    return first


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)
