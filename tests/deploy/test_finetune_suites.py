"""Fine-tuning on real suites: action sets that stay as trained, and every suite's own tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from finetuned_runs import begun, child_config, pretrained
from off_policy_runs import counting_control_config
from small_runs import atari_config

from repertory.config import (
    ActorConfig,
    AtariConfig,
    HalfCheetahConfig,
    LearnerConfig,
    MetaworldConfig,
    NetworkConfig,
    ReplayConfig,
    RunConfig,
    SacConfig,
)
from repertory.errors import BadInput


def test_a_network_of_two_games_keeps_its_18_actions_on_a_variant_of_one(tmp_path: Path) -> None:
    mixed = atari_config(tasks=("atari/breakout/m0d0", "atari/pong/m0d0"))
    path = pretrained(tmp_path, mixed)
    config = child_config(path, "atari/breakout/m12d0")
    assert isinstance(config.environment, AtariConfig)
    assert config.environment.full_action_space is True
    run = begun(config)
    run.round()
    assert run.tasks[0].action.size == 18
    run.close()


def test_actions_of_the_same_number_that_mean_something_else_are_refused(tmp_path: Path) -> None:
    path = pretrained(tmp_path, atari_config(tasks=("atari/breakout/m0d0",)))
    assert child_config(path, "atari/breakout/m12d0").environment.suite == "atari"
    with pytest.raises(BadInput, match="plays 4 actions on observations of 84 x 84, but atari/"):
        child_config(path, "atari/pong/m0d0")
    with pytest.raises(BadInput, match="the 4 actions of atari/blackjack/m0d0 are other ones"):
        child_config(path, "atari/blackjack/m0d0")


def small_sac(suite: str) -> RunConfig:
    environment = {
        "halfcheetah": HalfCheetahConfig(horizon=20),
        "metaworld": MetaworldConfig(horizon=20),
    }[suite]
    tasks = {
        "halfcheetah": ("halfcheetah/gravity-half", "halfcheetah/gravity-normal"),
        "metaworld": ("metaworld/reach", "metaworld/push"),
    }[suite]
    return counting_control_config(
        tasks=tasks,
        environment=environment,
        network=NetworkConfig(torso="mlp", hidden=8, layers=2, heads="per_task"),
        algorithm=SacConfig(exploration_steps=10, exploration="policy"),
        actors=ActorConfig(count=1, lanes=2, precision="fp32"),
        learner=LearnerConfig(batch_size=8, unroll_length=5, compile="off", precision="fp32"),
        replay=ReplayConfig(capacity=300, samples_per_insert=2.0, slack=2.0),
    )


@pytest.mark.parametrize(
    ("suite", "task"), [("halfcheetah", "gravity-one-and-half"), ("metaworld", "pick-place")]
)
def test_robots_and_runners_learn_a_new_task_with_heads_of_their_own(
    tmp_path: Path, suite: str, task: str
) -> None:
    path = pretrained(tmp_path, small_sac(suite))
    run = begun(child_config(path, f"{suite}/{task}"))
    for _ in range(40):
        if run.loop.updates >= 3:
            break
        run.round()
    assert run.loop.updates >= 3
    assert all(np.isfinite(value) for value in run.learner.metrics().values())
    run.close()
