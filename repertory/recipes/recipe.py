"""What a recipe is: a named run and one line on what it is for."""

from __future__ import annotations

from dataclasses import dataclass

from repertory.config import RunConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named run and one line on what it is for."""

    name: str
    summary: str
    config: RunConfig
