"""Errors a user can meet, each with the exit code that the command line ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RepertoryError(Exception):
    """Something a user should read as one sentence, without a traceback."""

    exit_code = 1


class BadInput(RepertoryError, ValueError):
    """A wrong name, value or combination; raised before anything is started or written."""

    exit_code = 2


class EnvironmentFailure(RepertoryError):
    """An environment raised, hung or returned nonsense; the message names the task."""

    exit_code = 3


class NumericalFailure(RepertoryError):
    """Loss or gradients were not finite too many times in a row."""

    exit_code = 4

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.batch: object = None
        """What the last update was to learn from; whoever catches the error may keep it."""


class ClusterFailure(RepertoryError):
    """A part of the run died and cannot come back, or the cluster cannot be reached."""

    exit_code = 5


def nearest(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """Return the known names most like `name`, best first, at most `count` of them."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the nearest known name, or an empty string."""
    close = nearest(name, known, count=1)
    return f" Did you mean '{close[0]}'?" if close else ""
