"""Small runs that the runtime tests share: the counting environment, a tiny network, no W&B."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from repertory.config import (
    ActorConfig,
    AtariConfig,
    CheckpointConfig,
    CountingConfig,
    EvaluationConfig,
    LearnerConfig,
    LoggingConfig,
    NetworkConfig,
    PopArtConfig,
    RunConfig,
)
from repertory.run_directory import RunDirectory
from repertory.types import Unroll

COUNTING_TASKS = ("counting/0", "counting/1", "counting/2")


def counting_config(**changes: Any) -> RunConfig:
    """A run of three counting tasks that takes seconds."""
    settings: dict[str, Any] = {
        "recipe": "test-counting",
        "tasks": COUNTING_TASKS,
        "environment": CountingConfig(),
        "network": NetworkConfig(torso="mlp", hidden=16),
        "actors": ActorConfig(count=2, lanes=6, precision="fp32"),
        "learner": LearnerConfig(batch_size=6, unroll_length=5, compile="off", precision="fp32"),
        "total_steps": 1200,
        "runtime": "local",
        "logging": LoggingConfig(wandb="disabled", every_s=0.5),
        "checkpoint": CheckpointConfig(every_s=600.0),
        "evaluation": EvaluationConfig(episodes=1, lanes=4),
    }
    return RunConfig(**(settings | changes))


def endless_cluster_config(**changes: Any) -> RunConfig:
    """A run on Ray that goes on until it is stopped, and evaluates nothing."""
    settings: dict[str, Any] = {
        "runtime": "cluster",
        "total_steps": 10**9,
        "evaluation": EvaluationConfig(at_end=False),
        "environment": CountingConfig(step_seconds=2e-5),
    }
    return counting_config(**(settings | changes))


def atari_config(**changes: Any) -> RunConfig:
    """Two Breakout variants, LSTM and PopArt included, small enough for a test."""
    settings: dict[str, Any] = {
        "recipe": "test-atari",
        "tasks": ("atari/breakout/m0d0", "atari/breakout/m16d0"),
        "environment": AtariConfig(max_frames=400),
        "network": NetworkConfig(
            torso="shallow", width=0.25, hidden=16, lstm=8, popart=PopArtConfig(enabled=True)
        ),
        "actors": ActorConfig(count=1, lanes=4),
        "learner": LearnerConfig(batch_size=4, unroll_length=5, compile="off"),
        "total_steps": 400,
        "runtime": "local",
        "logging": LoggingConfig(wandb="disabled"),
        "checkpoint": CheckpointConfig(every_s=600.0),
        "evaluation": EvaluationConfig(episodes=1, lanes=2, max_steps=20),
    }
    return RunConfig(**(settings | changes))


def check_counting_column(batch: Unroll, column: int) -> list[tuple[int, int, int]]:
    """Check one column of a batch of `counting_config`, and return its (task, episode, step)s.

    Nothing of another lane, episode or step may stand in it, whatever way it came.
    """
    task, episode, step = batch.observation[0, column].astype(int).tolist()
    assert task == batch.task[column]
    seen = []
    over = False
    for t in range(batch.length):
        if t:
            # The step that resets begins the next episode; any other one counts on.
            episode, step = (episode + 1, 0) if over else (episode, step + 1)
        assert batch.observation[t, column].tolist() == [task, episode, step]
        assert batch.age[t, column] == step
        over = step == 7 + task
        assert bool(batch.valid[t, column]) != over
        assert batch.reward[t, column] == (0 if over else step)
        assert batch.guide[t, column] == task
        seen.append((task, episode, step))
    return seen


def assert_same(left: object, right: object, path: str = "") -> None:
    """Compare two state trees to the bit."""
    # What is read back is a dictionary of a kind of its own.
    kinds = {dict if isinstance(one, dict) else type(one) for one in (left, right)}
    assert len(kinds) == 1, path
    match left:
        case dict():
            assert left.keys() == right.keys(), path
            for key in left:
                assert_same(left[key], right[key], f"{path}/{key}")
        case list():
            assert len(left) == len(right), path
            for index, (a, b) in enumerate(zip(left, right, strict=True)):
                assert_same(a, b, f"{path}/{index}")
        case np.ndarray():
            assert left.dtype == right.dtype, path
            np.testing.assert_array_equal(left, right, err_msg=path)
        case float():
            assert left == right or (np.isnan(left) and np.isnan(right)), path
        case _:
            assert left == right, path


def new_run(root: Path, config: RunConfig, name: str = "run") -> RunDirectory:
    """Make the run's directory with its config in it."""
    run = RunDirectory.create(root, config.recipe, name)
    run.write_config(config, {})
    return run


def rows(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the metric rows of a run."""
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def events(run: RunDirectory, kind: str | None = None) -> list[dict[str, Any]]:
    """Return what befell a run, or what did of a kind."""
    lines = run.events.read_text().splitlines() if run.events.exists() else []
    return [event for event in map(json.loads, lines) if kind in (None, event["kind"])]
