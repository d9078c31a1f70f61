"""Golden first losses of every recipe: its tasks, network, update and optimiser, in small.

A change of numbers changes `tests/golden/recipe_losses.json`; remake it on purpose with
`python tests/deploy/test_recipe_losses.py` and say why in the commit.
"""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest

from deploy.build import is_off_policy
from deploy.local import LocalRun
from envs.registry import training_tasks
from repertory.config import RunConfig, SacConfig, Td3Config
from repertory.networks import products
from repertory.recipes import RECIPES

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "recipe_losses.json"
WATCHED = (
    "learner/policy_loss",
    "learner/value_loss",
    "learner/entropy",
    "learner/gradient_norm",
    "learner/critic_loss",
    "learner/actor_loss",
    "learner/temperature",
    "guide/critic_loss",
    "guide/entropy",
)
"""Of each algorithm those that it has."""


def in_small(config: RunConfig) -> RunConfig:
    """The recipe with at most four tasks, one worker, short unrolls, fp32, no compiler."""
    names = training_tasks(config)
    few = names[:: max(1, len(names) // 4)][:4]
    learner = config.learner.model_copy(
        update={
            "batch_size": 4,
            "unroll_length": 5,
            "precision": "fp32",
            "compile": "off",
            "device": "cpu",
        }
    )
    if is_off_policy(config):
        return _replayed_in_small(config, few)
    actors = config.actors.model_copy(
        update={"count": 1, "lanes": 4, "groups": 1, "precision": "fp32"}
    )
    return config.model_copy(
        update={
            "tasks": few,
            "held_out": (),
            "runtime": "local",
            "learner": learner,
            "actors": actors,
        }
    )


def _replayed_in_small(config: RunConfig, few: tuple[str, ...]) -> RunConfig:
    """The same of an off-policy recipe: one update per unroll of ten steps, windows in each."""
    assert isinstance(config.algorithm, SacConfig | Td3Config)
    guide = config.algorithm.guide.model_copy(update={"step": 1})
    return config.model_copy(
        update={
            "tasks": few,
            "runtime": "local",
            "algorithm": config.algorithm.model_copy(
                update={"exploration_steps": 10, "guide": guide}
            ),
            "learner": config.learner.model_copy(
                update={
                    "batch_size": 4 * len(few),
                    "unroll_length": 10,
                    "precision": "fp32",
                    "device": "cpu",
                }
            ),
            "actors": config.actors.model_copy(update={"count": 1, "lanes": len(few)}),
            "replay": config.replay.model_copy(
                update={"capacity": 1_000, "samples_per_insert": 0.4}
            ),
        }
    )


def first_losses(name: str) -> list[dict[str, float]]:
    """Train a recipe in small for three updates and return what each one measured.

    With torch's own products on every processor: those of the other library round otherwise, and
    Adam's first steps, which follow signs, make 0.2 % of that by the third update.
    """
    with mock.patch.object(products, "_processor", return_value=""):
        return _measured(name)


def _measured(name: str) -> list[dict[str, float]]:
    run = LocalRun(in_small(RECIPES[name].config))
    losses: list[dict[str, float]] = []
    while len(losses) < 3:
        run.round()
        assert run.loop.updates <= len(losses) + 1
        if run.loop.updates > len(losses):
            metrics = run.learner.metrics()
            losses.append({key: metrics[key] for key in WATCHED if key in metrics})
    run.close()
    return losses


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_first_losses_of_a_recipe_are_what_they_were(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(RECIPES)
    for measured, expected in zip(first_losses(name), golden[name], strict=True):
        # Loose enough for another processor's order of summation, tight enough for a changed
        # formula, seed or default.
        assert measured == pytest.approx(expected, rel=2e-3, abs=2e-4)


if __name__ == "__main__":
    made = {name: first_losses(name) for name in RECIPES}
    GOLDEN.write_text(json.dumps(made, indent=1) + "\n")
