"""Named sets of Atari variants: all of a game, those to train on, those held out."""

from __future__ import annotations

import re
from collections.abc import Collection

from envs.atari import catalog
from repertory.errors import BadInput, did_you_mean, nearest

HELD_OUT: dict[str, tuple[str, ...]] = {
    # 33 modes at two difficulties, 63 + 3 as in Farebrother et al. 2024 (which three is not
    # published): a quarter, a half and three quarters through the modes, both difficulties.
    "asteroids": ("m8d0", "m16d3", "m24d0"),
    # Modes 0 to 15 switch four rules in all combinations, one per bit: moving shields, bombs that
    # zigzag, fast bombs, invisible invaders. 29 + 3 (Farebrother et al. 2024): two pairs and all
    # four together are new, every rule alone is known.
    "space_invaders": ("m6d0", "m9d1", "m15d0"),
    # Three families of rules: 0 to 12, 16 to 28 (the ball passes through bricks), 32 to 44 (another
    # scoring). One of each is new.
    "breakout": ("m8d0", "m24d0", "m40d1"),
    # Eight modes at four difficulties: each held-out mode and difficulty is known from another
    # combination.
    "bank_heist": ("m8d2", "m16d1", "m24d3"),
}
"""The default split: spread over the modes, never the default variant m0d0."""

_PARTS = ("train", "held-out")
_GYMNASIUM = re.compile(r"(?:ALE/)?([A-Z][A-Za-z]*?)(?:NoFrameskip|Deterministic)?(?:-ram)?-v\d")


def default_held_out(game: str) -> tuple[str, ...]:
    """Return the names of the variants held out by default; none for most games."""
    catalog.check_game(game)
    return tuple(catalog.variant(game, text).name for text in HELD_OUT.get(game, ()))


def expand(name: str, held_out: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the tasks that `name` stands for, in the catalog's order.

    Args:
        name: atari/<game>, atari/<game>/train, atari/<game>/held-out or one task.
        held_out: names of all held-out tasks of the run instead of the default split.

    Raises:
        BadInput: there is no such suite, game or variant.
    """
    match name.split("/"):
        case ["atari", game]:
            return _all(game)
        case ["atari", game, "train"]:
            left_out = default_held_out(game) if held_out is None else held_out
            return tuple(task for task in _all(game) if task not in left_out)
        case ["atari", game, "held-out"]:
            kept = default_held_out(game) if held_out is None else held_out
            tasks = tuple(task for task in _all(game) if task in kept)
            if not tasks:
                raise BadInput(
                    f"'{name}': no variant of {game} is held out; name some in held_out."
                )
            return tasks
        case ["atari", game, text]:
            catalog.check_game(game)
            if not text.startswith("m") and (hint := did_you_mean(text, _PARTS)):
                raise BadInput(f"unknown suite '{name}'.{hint}")
            return (catalog.variant(game, text).name,)
        case _:
            raise BadInput(
                f"'{name}' is neither a task nor a suite; write {catalog.GRAMMAR}, "
                "or atari/<game>, atari/<game>/train, atari/<game>/held-out."
            )


def meant_by(name: str, *, near: bool) -> str:
    """Return the task or suite that a name without `atari/` is likely to mean, or an empty string.

    Gymnasium's names (ALE/Pong-v5, PongNoFrameskip-v4) mean the default variant. `near` takes
    misspelt games too.
    """
    if found := _GYMNASIUM.fullmatch(name):
        game, *variant = re.sub(r"(?<!^)(?=[A-Z])", "_", found[1]).lower(), "m0d0"
    else:
        game, *variant = name.split("/")
        game = game.lower().replace("-", "_")
    if game not in catalog.games():
        game = next(iter(nearest(game, catalog.games(), count=1)), "") if near else ""
    return "/".join(["atari", game, *variant]) if game else ""


def suites() -> tuple[str, ...]:
    """Return the names of all suites."""
    names = []
    for game in catalog.games():
        names += [f"atari/{game}", f"atari/{game}/train"]
        names += [f"atari/{game}/held-out"] if game in HELD_OUT else []
    return tuple(names)


def _all(game: str) -> tuple[str, ...]:
    return tuple(task.name for task in catalog.variants(game))
