"""Returns on one scale: 0 is random play, 1 is a reference, of one's own or human.

Axes: S runs, M tasks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

HUMAN_TABLE = Path(__file__).with_name("atari_human.csv")
"""Published scores of random play and of a human, with their source in the first lines."""


class Range(NamedTuple):
    """Returns of a task that count as 0 and as 1."""

    random: float
    reference: float


def normalised(
    returns: Float[np.ndarray, "S M"],
    random: Float[np.ndarray, " M"],
    reference: Float[np.ndarray, " M"],
) -> Float[np.ndarray, "S M"]:
    """Return (return - random) / (reference - random) of every run and task.

    Raises:
        ValueError: a reference agent that does not play better than random in some task: a scale
            that it were the upper end of would call the worse of two agents the better.
    """
    span = reference - random
    above = np.isfinite(span) & (span > 0)
    if not above.all():
        worst = int(np.flatnonzero(~above)[0])
        raise ValueError(
            f"task {worst}: random play has {random[worst]:g} and the reference "
            f"{reference[worst]:g}; only a reference above random play makes a scale"
        )
    return np.asarray((returns - random) / span)


@cache
def human_ranges() -> dict[str, Range]:
    """Return random play's and a human's score of 57 Atari tasks (Wang et al. 2016).

    Each is a game's default variant: other modes and difficulties have no human scores.
    """
    with HUMAN_TABLE.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(_without_comments(stream))
        return {
            f"atari/{row['game']}/m{row['mode']}d0": Range(
                float(row["random"]), float(row["human"])
            )
            for row in rows
        }


def _without_comments(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if not line.startswith("#"))
