"""A recipe under task masks, as Hu et al. 2024 set them."""

from __future__ import annotations

from repertory.config import GradientConfig, MaskConfig
from repertory.recipes.recipe import Recipe

# Hu et al. 2024 (Harmony Multi-Task Decision Transformer, arXiv 2405.18080) leave out a fifth of
# the weights and exchange at most 100 of 1.47 million in one update, every 500 in the released code
# and every 5000 as others report them. Five times as many every 2500: a run exchanges as much, and
# scoring takes below 1 % of it, where every 500 it takes 3 to 5 (docs/results.md).
_MASKS = MaskConfig(sparsity=0.2, variant="fisher", alpha=5e-4, every=2500)


def masked(recipe: Recipe, name: str) -> Recipe:
    """Return a recipe whose tasks each act and learn with a part of the networks' weights."""
    changes = {"recipe": name, "gradients": GradientConfig(method="harmony"), "masks": _MASKS}
    return Recipe(
        name, f"{recipe.summary}, a mask per task", recipe.config.model_copy(update=changes)
    )
