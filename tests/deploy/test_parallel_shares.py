"""How several learners share a run, what is refused, and what they tell as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_runs import counting_config

from deploy import build, several_learners
from deploy.cluster.joined import joined_experience, joined_heartbeat, joined_metrics
from deploy.cluster.messages import Heartbeat
from deploy.cluster.ray_session import cores_of
from deploy.preflight import check
from repertory.config import (
    ActorConfig,
    GradientConfig,
    GuideConfig,
    LearnerConfig,
    PpoConfig,
    ReplayConfig,
    RunConfig,
    SacConfig,
)
from repertory.errors import BadInput
from repertory.recipes import get


def shared(count: int = 2, *, batch: int = 12, actors: int = 4, **changes: Any) -> RunConfig:
    learner = LearnerConfig(batch_size=batch, unroll_length=5, count=count, precision="fp32")
    workers = ActorConfig(count=actors, lanes=4)
    return counting_config(learner=learner, actors=workers, **({"runtime": "cluster"} | changes))


def test_every_learner_s_workers_play_all_tasks_in_equal_parts() -> None:
    config = shared(count=2, actors=6)
    tasks = len(build.tasks_of(config))
    for rank in range(2):
        workers = several_learners.workers_of(config, rank)
        lanes = [task for w in workers for task in build.assignment(config, tasks, w)]
        assert np.bincount(lanes, minlength=tasks).tolist() == [4, 4, 4]
        share = several_learners.share_of(config, rank)
        assert build.lanes_per_task(share, tasks) == (4, 4, 4)
    assert sorted(w for r in range(2) for w in several_learners.workers_of(config, r)) == [
        *range(6)
    ]


def test_the_shares_of_a_run_add_up_to_it_and_replay_by_streams_of_their_own() -> None:
    config = get("halfcheetah-mt5-small").config.model_copy(
        update={
            "learner": LearnerConfig(batch_size=30, count=3),
            "actors": ActorConfig(count=4),
            "replay": ReplayConfig(capacity=3000),
            "algorithm": SacConfig(exploration_steps=100),
        }
    )
    shares = [several_learners.share_of(config, rank) for rank in range(3)]
    assert [share.learner.batch_size for share in shares] == [10, 10, 10]
    assert [share.replay.capacity for share in shares] == [1000, 1000, 1000]
    assert sum(share.actors.count for share in shares) == config.actors.count
    assert len({share.seed for share in shares}) == 3
    for share in shares:
        assert isinstance(share.algorithm, SacConfig)
        assert share.algorithm.exploration_steps == 34
        assert share.learner.count == 1
    alone = shared(count=1)
    assert several_learners.share_of(alone, 0) is alone


def test_a_plan_counts_every_learner_and_its_core() -> None:
    one, two = check(shared(count=1)), check(shared(count=2))
    (learner,) = (part for part in two.parts if part.name == "learner")
    assert learner.count == 2
    assert two.memory > one.memory
    assert cores_of(shared(count=2)) == cores_of(shared(count=1)) + 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"runtime": "local"}, "learner.count 2: runtime local is one process with one learner"),
        ({"algorithm": PpoConfig(minibatches=2)}, "ppo's minibatches are not shared"),
        ({"gradients": GradientConfig(method="pcgrad")}, "gradients.method pcgrad needs each task"),
        ({"gradients": GradientConfig(method="harmony")}, "gradients.method harmony needs each"),
        (
            {"algorithm": SacConfig(guide=GuideConfig(kind="ctpg"))},
            "the guide of algorithm.guide.kind ctpg learns from windows",
        ),
        ({"batch": 13}, "learner.batch_size 13 cannot be shared equally: 12 or 14 could"),
        ({"actors": 1}, "actors.count 1 leaves some learner without a worker: make it at least 2"),
        ({"count": 4, "batch": 48}, "would have too little: learner.batch_size 12 is more unrolls"),
    ],
)
def test_what_learners_cannot_share_is_refused_in_one_sentence(
    changes: dict[str, Any], sentence: str
) -> None:
    config = shared(**changes)
    with pytest.raises(BadInput) as refused:
        check(config)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_metrics_of_learners_are_added_averaged_or_the_largest_by_what_they_are() -> None:
    joined = joined_metrics(
        [
            {"task/a/steps": 3.0, "lag/mean": 1.0, "lag/max": 4.0, "replay/rows": 2.0},
            {"task/a/steps": 4.0, "lag/mean": 2.0, "lag/max": 3.0, "replay/rows": 5.0, "b": 1.0},
        ]
    )
    assert joined == {
        "task/a/steps": 7.0,
        "lag/mean": 1.5,
        "lag/max": 4.0,
        "replay/rows": 7.0,
        "b": 1.0,
    }


def test_shares_stay_shares_and_counters_are_those_of_all() -> None:
    names = {"replay/windows_partial", "task/a/replay_fill", "task/a/guided", "task/a/queue"}
    joined = joined_metrics([dict.fromkeys(names, 0.5), dict.fromkeys(names, 1.0)])
    assert joined == dict.fromkeys(names, 0.75)


def test_heartbeats_are_one_and_tell_of_any_failure() -> None:
    failure = RuntimeError("x")
    beat = joined_heartbeat(
        [Heartbeat(5, 100, {0: 1.0, 2: 2.0}, None), Heartbeat(5, 50, {1: 3.0}, failure)]
    )
    assert beat == Heartbeat(5, 150, {0: 1.0, 2: 2.0, 1: 3.0}, failure)


@pytest.mark.parametrize("off_policy", [False, True])
def test_experience_of_several_learners_is_one_that_a_single_learner_takes_up(
    off_policy: bool,
) -> None:
    config = get("halfcheetah-mt5-small").config if off_policy else counting_config()
    tasks = build.tasks_of(config)
    held = build.experience(config, tasks)
    shares = [held.state(contents=True), held.state(contents=True)]
    for number, share in enumerate(shares):
        if off_policy:
            share["records"][tasks[0].name]["steps"] = 10 + number
            share["records"][tasks[0].name]["success"] = [True, False]
            share["records"][tasks[0].name]["guides"][0] = 5 + number
        else:
            share["counters"][tasks[0].name] |= {"steps": 10 + number, "lag_max": 3 - number}
    joined = joined_experience(shares)
    held.restore(joined)
    assert held.steps == 21
    if off_policy:
        assert joined["records"][tasks[0].name]["success"] == [True, False] * 2
        assert "rings" not in joined
        guides = held.guide_counts()
        assert guides is not None
        assert guides[0, 0] == 11
    else:
        assert joined["counters"][tasks[0].name]["lag_max"] == 3
