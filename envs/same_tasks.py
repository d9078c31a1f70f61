"""Refuse a saved state of lanes that play other tasks."""

from __future__ import annotations

from collections.abc import Sequence

from repertory.errors import BadInput


def check_same_tasks(saved: Sequence[str], own: Sequence[str]) -> None:
    """Raise BadInput unless lanes go on with the tasks, in the order, that they were saved with."""
    if list(saved) != list(own):
        raise BadInput(f"the saved lanes play {list(saved)}, these lanes play {list(own)}.")
