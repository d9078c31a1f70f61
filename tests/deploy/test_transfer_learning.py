"""What lent policies are worth: a target that a task does not find by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from off_policy_runs import ADAM
from transfer_runs import expert_run, student_config

from deploy.evaluation import evaluate_weights
from deploy.experts import expert_arrays, with_experts
from deploy.local import LocalRun
from repertory.config import (
    GuideConfig,
    LearnerConfig,
    NetworkConfig,
    PointMassConfig,
    ReplayConfig,
    RunConfig,
    SacConfig,
)


def learned(config: RunConfig, seed: int, steps: int, *, ratio: float) -> LocalRun:
    """Train on `beyond` with episodes long enough to reach it, and return the run."""
    settings: dict[str, Any] = {
        "seed": seed,
        "environment": PointMassConfig(),
        "network": NetworkConfig(torso="mlp", hidden=64, layers=2, conditioning="one_hot"),
        "optimiser": ADAM.model_copy(update={"learning_rate": 3e-3}),
        "learner": LearnerConfig(batch_size=64, unroll_length=10, compile="off", precision="fp32"),
        "replay": ReplayConfig(capacity=steps, samples_per_insert=ratio),
        "total_steps": steps,
    }
    assert isinstance(config.algorithm, SacConfig)
    guide = config.algorithm.guide.model_copy(update={"step": 10})
    changes = {"temperature": 0.1, "target_step": 0.01, "discount": 0.97, "guide": guide}
    settings["algorithm"] = config.algorithm.model_copy(update=changes)
    config = with_experts(config.model_copy(update=settings))
    run = LocalRun(config, expert_arrays(config))
    while run.experience.steps < steps:
        run.round()
    return run


def alone(config: RunConfig) -> RunConfig:
    """The same run without a guide."""
    assert isinstance(config.algorithm, SacConfig)
    unguided = config.algorithm.model_copy(update={"guide": GuideConfig()})
    return config.model_copy(update={"algorithm": unguided})


def test_lent_steps_reach_what_a_task_s_own_exploration_does_not(tmp_path: Path) -> None:
    guided = student_config(expert_run(tmp_path))
    reached = []
    for config in (guided, alone(guided)):
        run = learned(config, seed=1, steps=2000, ratio=2.0)
        reached.append([episode.success for episode in run.experience.drain_episodes()])
        run.close()
    with_expert, by_itself = reached
    assert len(with_expert) == len(by_itself) == 40
    assert sum(map(bool, with_expert)) >= 10
    assert not any(by_itself)


@pytest.mark.slow
def test_a_task_learns_from_lent_steps_what_it_never_learns_alone(tmp_path: Path) -> None:
    guided = student_config(expert_run(tmp_path))
    for seed in (1, 2):
        successes = []
        for config in (guided, alone(guided)):
            run = learned(config, seed, steps=8000, ratio=16.0)
            # Its own greedy policy: the expert is not asked any more.
            (score,) = evaluate_weights(
                run.config,
                run.learner.weights(),
                ["pointmass/beyond"],
                episodes=8,
                policies=("greedy",),
                seed=1,
            )
            successes.append(sum(map(bool, score.successes)))
            run.close()
        assert successes == [8, 0], seed
