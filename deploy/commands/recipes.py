"""`repertory recipes`: what can be run, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.commands import Page, parse
from repertory.config import Settings
from repertory.recipes import RECIPES

USAGE = "repertory recipes"


class Options(Settings):
    """None."""


def page() -> Page:
    """Return the help."""
    return Page(USAGE, "List what `repertory train` can run.", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Print the recipes."""
    parse(Options, tokens, USAGE)
    width = max(map(len, RECIPES))
    for recipe in RECIPES.values():
        actors = recipe.config.actors
        size = f"{recipe.config.total_steps:,} steps, {actors.count} x {actors.lanes} lanes"
        print(f"{recipe.name:{width}}  {recipe.summary} ({size})")
    return 0
