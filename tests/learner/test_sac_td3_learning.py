"""SAC and TD3 learn something: two tasks whose best actions differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from off_policy import ADAM, box_tasks, off_policy_config, off_policy_learner, replayed

from repertory.config import SacConfig, Td3Config
from repertory.types import ReplayBatch

TARGETS = np.array([0.6, -0.4], np.float32)


def bandit_batch(random: np.random.Generator, each: int = 32) -> ReplayBatch:
    """Return steps of two tasks whose reward is -(a - target)^2, every one an end."""
    tasks = box_tasks(2, size=1, actions=1)
    action = random.uniform(-1, 1, (2 * each, 1)).astype(np.float32)
    ones = np.ones((2 * each, 1), np.float32)
    return replayed(
        tasks,
        each=each,
        observation=ones,
        next_observation=ones,
        action=action,
        reward=-((action[:, 0] - TARGETS.repeat(each)) ** 2),
        terminated=np.ones(2 * each, bool),
        truncated=np.zeros(2 * each, bool),
    )


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("heads", ["shared", "per_task"])
@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_two_tasks_with_different_best_actions_are_learned(
    kind: Any, heads: str, precision: str
) -> None:
    tasks = box_tasks(2, size=1, actions=1)
    sac = kind is SacConfig
    algorithm = SacConfig(temperature=0.05) if sac else Td3Config()
    fast = ADAM.model_copy(update={"learning_rate": 3e-3})
    config = off_policy_config(
        algorithm, heads=heads, hidden=32, optimiser=fast, precision=precision
    )
    learner = off_policy_learner(config, tasks)
    random = np.random.default_rng(0)

    def actions() -> np.ndarray:
        with torch.no_grad():
            outputs = learner._update.agent.actor(torch.ones(2, 1), torch.arange(2))
        found: np.ndarray = np.tanh(outputs[0, :, 0].numpy())
        return found

    assert np.abs(actions() - TARGETS).max() > 0.2
    # A head of its own for each task starts further out here.
    for _ in range({"shared": 200, "per_task": 300 if sac else 450}[heads]):
        learner.update(bandit_batch(random), 0.0)
    assert np.abs(actions() - TARGETS).max() < 0.12
