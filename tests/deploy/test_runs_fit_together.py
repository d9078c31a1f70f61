"""What a run and its evaluation must agree on, and combinations that are refused or warned of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from deploy import build
from deploy.evaluation_lanes import evaluation_lane
from deploy.preflight import check
from repertory.config import GuideConfig, MetaworldConfig, RunConfig, Td3Config
from repertory.recipes import get


def changed(recipe: str, **changes: Any) -> RunConfig:
    config = get(recipe).config
    return RunConfig.model_validate({**dict(config), **changes})


def test_an_evaluation_plays_the_fixed_goals_that_the_run_trains_on() -> None:
    config = changed(
        "metaworld-small",
        seed=7,
        tasks=("metaworld/reach",),
        environment=MetaworldConfig(goals="fixed", horizon=1),
    )
    tasks = build.tasks_of(config)
    training = build.make_lanes(config.environment, tasks, [0], seed=config.seed, path=("worker",))
    evaluated = evaluation_lane(config, tasks, config.evaluation.seed)

    def goals(observations: list[np.ndarray]) -> set[tuple[float, ...]]:
        return {tuple(observation[0, -3:].tolist()) for observation in observations}

    trained = [training.reset()]
    for _ in range(600):
        result = training.step(np.zeros((1, 4), np.float32))
        if result.started[0]:
            trained.append(result.observation.copy())
    training.close()
    played = []
    for episode in range(8):
        lane = evaluated(0, episode)
        played.append(lane.reset())
        lane.close()
    assert len(goals(trained)) > 40
    assert len(goals(played)) > 3
    assert len(goals(played) - goals(trained)) <= 2  # 300 draws may miss a goal of 50.


def test_td3_refuses_weights_that_need_temperatures_before_anything_starts() -> None:
    with pytest.raises(ValidationError, match="which td3 has not: use none"):
        changed("mt10-mttd3", algorithm=Td3Config(rescale="inverse_temperature"))


def test_a_gate_that_another_guide_does_not_read_refuses_nothing() -> None:
    config = changed("mt10-mttd3", algorithm=Td3Config(guide=GuideConfig(kind="qmp")))
    assert check(config).tasks


def test_a_lag_that_only_queues_know_does_not_hold_replay_back() -> None:
    config = get("mt10-ctpg").config
    rarely = config.learner.model_copy(update={"publish_every": 100})
    assert changed("mt10-ctpg", learner=rarely).learner.publish_every == 100


def test_a_network_that_cannot_tell_its_tasks_apart_is_warned_of() -> None:
    network = get("mt10-mtsac").config.network.model_copy(update={"conditioning": "none"})
    warnings = check(changed("mt10-mtsac", network=network)).warnings
    assert any("is not told which of the 10 tasks" in warning for warning in warnings)


def test_a_gate_by_success_is_warned_of_where_tasks_know_none() -> None:
    algorithm = get("halfcheetah-mt5-ctpg").config.algorithm
    guide = algorithm.guide.model_copy(update={"block": "success"})
    config = changed(
        "halfcheetah-mt5-ctpg", algorithm=algorithm.model_copy(update={"guide": guide})
    )
    assert any("know no success" in warning for warning in check(config).warnings)
