"""Synthetic tasks, batches and learners that the tests of networks and learners share."""

from __future__ import annotations

from typing import Any

import numpy as np

from learner.ppo import PpoLearner
from learner.vtrace import VTraceLearner
from repertory.config import LearnerConfig, NetworkConfig, PpoConfig, RunConfig
from repertory.networks.actor_critic import build_network
from repertory.types import ActionSpec, ObservationSpec, TaskSpec, Unroll


def image_tasks(count: int, *, actions: int = 4, side: int = 84, stack: int = 4) -> list[TaskSpec]:
    """Return tasks that show stacked grey frames."""
    spec = ObservationSpec((side, side), "uint8", stack)
    return [
        TaskSpec(index, f"task{index}", spec, ActionSpec("discrete", actions), 0.99)
        for index in range(count)
    ]


def vector_tasks(count: int, *, size: int = 3, actions: int = 4) -> list[TaskSpec]:
    """Return tasks that show float vectors."""
    spec = ObservationSpec((size,), "float32")
    return [
        TaskSpec(index, f"task{index}", spec, ActionSpec("discrete", actions), 0.99)
        for index in range(count)
    ]


def batch_of(
    tasks: list[TaskSpec],
    *,
    steps: int = 6,
    columns: int = 4,
    seed: int = 0,
    recurrent: int = 0,
    **replaced: Any,
) -> Unroll:
    """Return a random batch with ends, cuts and resetting steps in places that make sense."""
    random = np.random.default_rng(seed)
    spec, actions = tasks[0].observation, tasks[0].action.size
    shape = (spec.history + steps + 1, columns, *spec.shape)
    if spec.dtype == "uint8":
        observation = random.integers(0, 256, shape, dtype=np.uint8)
    else:
        observation = random.normal(size=shape).astype(np.float32)
    ended = random.random((steps, columns)) < 0.15
    terminated = ended & (random.random((steps, columns)) < 0.5)
    valid = np.ones((steps, columns), bool)
    valid[1:] = ~ended[:-1]
    age = np.zeros((steps + 1, columns), np.uint8)
    age[0] = random.integers(0, 9, columns)
    for step in range(steps):
        age[step + 1] = np.where(valid[step], age[step] + 1, 0)
    task = (np.arange(columns) % len(tasks)).astype(np.int32)
    fields: dict[str, Any] = {
        "worker": 0,
        "incarnation": 0,
        "sequence": 0,
        "task": task,
        "policy_version": np.zeros(columns, np.int64),
        "observation": observation,
        "age": age,
        "action": random.integers(0, actions, (steps, columns)),
        "reward": np.where(valid, random.normal(size=(steps, columns)), 0.0).astype(np.float32),
        "terminated": terminated & valid,
        "truncated": ended & ~terminated & valid,
        "valid": valid,
        "behaviour_log_probability": np.log(
            random.uniform(0.1, 0.9, (steps, columns)), dtype=np.float32, casting="same_kind"
        ),
        "guide": np.tile(task, (steps, 1)),
        "decision": np.zeros((steps, columns), bool),
        "recurrent": random.normal(size=(columns, recurrent)).astype(np.float32),
    }
    return Unroll(**{**fields, **replaced})


def run_config(network: NetworkConfig | None = None, **parts: Any) -> RunConfig:
    """Return a configuration for one torch thread on the CPU: float32, nothing compiled."""
    learner = LearnerConfig(
        device="cpu", precision="fp32", compile="off", batch_size=4, nonfinite_limit=3
    )
    network = network or NetworkConfig(torso="mlp", hidden=16)
    return RunConfig(**{"network": network, "learner": learner, **parts})


def learner_of(config: RunConfig, tasks: list[TaskSpec], seed: int = 1) -> Any:
    """Return the learner that a configuration names, with a fresh network."""
    network = build_network(tasks, config.network, seed)
    if isinstance(config.algorithm, PpoConfig):
        return PpoLearner(network, config, tasks)
    return VTraceLearner(network, config, tasks)
