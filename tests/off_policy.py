"""Synthetic tasks, replayed batches and learners that the tests of SAC and TD3 share."""

from __future__ import annotations

from typing import Any

import numpy as np

from learner.sac import SacLearner
from learner.td3 import Td3Learner
from repertory.config import (
    LearnerConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.networks.control_agent import build_agent
from repertory.types import ActionSpec, ObservationSpec, ReplayBatch, TaskSpec

ADAM = OptimiserConfig(kind="adam", learning_rate=1e-3, anneal="none", epsilon=1e-8, clip_norm=1e6)


def box_tasks(count: int, *, size: int = 5, actions: int = 2) -> list[TaskSpec]:
    """Return tasks of float vectors and continuous actions."""
    spec = ObservationSpec((size,), "float32")
    return [
        TaskSpec(index, f"task{index}", spec, ActionSpec("box", actions), 0.99)
        for index in range(count)
    ]


def replayed(tasks: list[TaskSpec], *, each: int = 4, seed: int = 0, **fields: Any) -> ReplayBatch:
    """Return a random batch, `each` rows per task, some of them ends; `fields` replace its own."""
    random = np.random.default_rng(seed)
    rows, size = each * len(tasks), tasks[0].observation.shape[0]
    end = random.integers(0, 6, rows)
    made: dict[str, Any] = {
        "task": np.arange(len(tasks), dtype=np.int32).repeat(each),
        "observation": random.normal(size=(rows, size)).astype(np.float32),
        "action": random.uniform(-1, 1, (rows, tasks[0].action.size)).astype(np.float32),
        "reward": random.normal(size=rows).astype(np.float32),
        "terminated": end == 0,
        "truncated": end == 1,
        "next_observation": random.normal(size=(rows, size)).astype(np.float32),
        "success_rate": np.full(len(tasks), np.nan, np.float32),
    }
    return ReplayBatch(**{**made, **fields})


def off_policy_config(
    algorithm: SacConfig | Td3Config | None = None,
    *,
    heads: str = "shared",
    hidden: int = 16,
    layers: int = 2,
    optimiser: OptimiserConfig = ADAM,
    **learner: Any,
) -> RunConfig:
    """Return a configuration; the task is given by a code unless there is a head for each."""
    network = NetworkConfig(
        torso="mlp",
        hidden=hidden,
        layers=layers,
        conditioning="one_hot" if heads == "shared" else "none",
        heads=heads,  # type: ignore[arg-type]
    )
    return RunConfig(
        algorithm=algorithm or SacConfig(),
        network=network,
        optimiser=optimiser,
        learner=LearnerConfig(
            **{"device": "cpu", "precision": "fp32", "nonfinite_limit": 3, **learner}
        ),
    )


def off_policy_learner(config: RunConfig, tasks: list[TaskSpec], seed: int = 1) -> Any:
    """Return the learner that a configuration names, with a fresh agent."""
    agent = build_agent(tasks, config, seed)
    return (SacLearner if config.algorithm.kind == "sac" else Td3Learner)(agent, config, tasks)
