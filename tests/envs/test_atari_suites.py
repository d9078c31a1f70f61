"""The splits: their sizes, that they share nothing, and that nothing is missing."""

from __future__ import annotations

import pytest

from envs.atari import catalog, suites
from repertory.errors import BadInput


@pytest.mark.parametrize(
    ("game", "trained", "held_out"),
    [
        ("asteroids", 63, 3),
        ("space_invaders", 29, 3),
        ("breakout", 21, 3),
        ("bank_heist", 29, 3),
        ("pong", 8, 0),
    ],
)
def test_train_and_held_out_split_all_variants_without_the_default_one_held_out(
    game: str, trained: int, held_out: int
) -> None:
    everything = suites.expand(f"atari/{game}")
    train = suites.expand(f"atari/{game}/train")
    held = suites.default_held_out(game)
    assert (len(train), len(held)) == (trained, held_out)
    assert not set(train) & set(held)
    assert set(train) | set(held) == set(everything)
    assert catalog.variants(game)[0].name in train


@pytest.mark.parametrize("game", sorted(suites.HELD_OUT))
def test_held_out_variants_are_of_different_modes_that_training_knows_by_parts(game: str) -> None:
    held = [catalog.parse(name) for name in suites.expand(f"atari/{game}/held-out")]
    train = [catalog.parse(name) for name in suites.expand(f"atari/{game}/train")]
    assert len({task.mode for task in held}) == len(held)
    assert {task.mode for task in held} <= {task.mode for task in train}
    assert {task.difficulty for task in held} <= {task.difficulty for task in train}


def test_the_split_can_be_given() -> None:
    own = ("atari/pong/m1d0", "atari/pong/m1d3")
    assert suites.expand("atari/pong/held-out", own) == own
    assert len(suites.expand("atari/pong/train", own)) == 6
    assert len(suites.expand("atari/breakout/train", ())) == 24


def test_a_single_task_stands_for_itself() -> None:
    assert suites.expand("atari/breakout/m4d1") == ("atari/breakout/m4d1",)


def test_every_listed_suite_has_tasks() -> None:
    names = suites.suites()
    assert "atari/breakout/held-out" in names
    assert len(names) == 2 * len(catalog.games()) + 4
    small = [name for name in names if name.split("/")[1] in (*suites.HELD_OUT, "pong")]
    assert all(suites.expand(name) for name in small)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "atari/pong/held-out",
            "'atari/pong/held-out': no variant of pong is held out; name some in held_out.",
        ),
        (
            "atari/breakout/trian",
            "unknown suite 'atari/breakout/trian'. Did you mean 'train'?",
        ),
        (
            "atari/breakout/heldout",
            "unknown suite 'atari/breakout/heldout'. Did you mean 'held-out'?",
        ),
        (
            "atari/brekout",
            "unknown Atari game 'brekout'. Did you mean 'breakout'? List: repertory tasks atari",
        ),
        (
            "atari",
            "'atari' is neither a task nor a suite; write atari/<game>/m<mode>d<difficulty>, for "
            "instance atari/space_invaders/m1d0, or atari/<game>, atari/<game>/train, "
            "atari/<game>/held-out.",
        ),
    ],
)
def test_a_wrong_suite_ends_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        suites.expand(name)
    assert str(caught.value) == message
