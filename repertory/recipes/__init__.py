"""The named runs: each recipe is one complete `RunConfig` value, its numbers with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from repertory.errors import BadInput, did_you_mean
from repertory.recipes import atari, control, debug, small_control
from repertory.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "get"]

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (*atari.RECIPES, *control.RECIPES, *small_control.RECIPES, *debug.RECIPES)
    }
)


def get(name: str) -> Recipe:
    """Return the recipe called `name`; BadInput names the nearest one."""
    if name not in RECIPES:
        raise BadInput(
            f"unknown recipe '{name}'.{did_you_mean(name, RECIPES)} Recipes: {', '.join(RECIPES)}"
        )
    return RECIPES[name]
