"""What the tests of the Atari lanes share: making lanes, playing, and comparing what came."""

from __future__ import annotations

import numpy as np

from envs import registry
from envs.atari.lanes import AtariLanes
from repertory.config import AtariConfig
from repertory.types import StepResult


def make(
    names: list[str],
    settings: AtariConfig,
    seed: int = 1,
    path: tuple[str | int, ...] = ("actor", 0),
) -> AtariLanes:
    specs = registry.task_specs(names, settings, 0.99)
    lanes = registry.make_lanes(settings, specs, range(len(specs)), seed=seed, path=path)
    assert isinstance(lanes, AtariLanes)
    return lanes


def copied(result: StepResult) -> tuple[object, ...]:
    arrays = (
        result.observation,
        result.reward,
        result.terminated,
        result.truncated,
        result.valid,
        result.started,
    )
    return (*(array.tobytes() for array in arrays), result.episodes)


def play(lanes: AtariLanes, actions: np.ndarray) -> list[tuple[object, ...]]:
    return [copied(lanes.step(action)) for action in actions]


def random_actions(steps: int, lanes: int, actions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(actions, size=(steps, lanes))
