"""`actors.count all`: how many workers are planned, what is said of them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import counting_config

from deploy import several_learners, worker_numbers
from deploy.cluster.ray_session import cores_of
from deploy.placement import MORE_WORKERS
from deploy.plan_text import plan_text
from deploy.preflight import check
from deploy.worker_numbers import follows_cluster, planned_workers, with_number
from repertory.config import ActorConfig, LearnerConfig, ReplayConfig, RunConfig, SacConfig

JOINED = {"runtime": "cluster", "address": "head:6379"}


def following(lanes: int = 6, batch: int = 6, learners: int = 1, **changes: Any) -> RunConfig:
    learner = LearnerConfig(batch_size=batch, unroll_length=5, count=learners)
    return counting_config(
        actors=ActorConfig(count="all", lanes=lanes), learner=learner, **(JOINED | changes)
    )


@pytest.mark.parametrize(("cores", "workers"), [(8, 6), (3, 1), (2, 1), (1, 1)])
def test_on_this_machine_all_is_every_core_that_no_other_part_has(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_numbers, "cores_of_this_machine", lambda: cores)
    config = following(address="")
    assert planned_workers(config) == workers
    assert with_number(config).actors.count == workers
    assert cores_of(config) == workers + 2
    assert not follows_cluster(config)
    (part,) = (part for part in check(config).parts if part.name == "rollout worker")
    assert part.count == workers


def test_a_replay_of_its_own_and_every_learner_have_their_core_and_each_learner_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_numbers, "cores_of_this_machine", lambda: 10)
    replay = ReplayConfig(place="process")
    assert planned_workers(following(address="", learners=3, replay=replay)) == 6
    config = following(address="", learners=3, replay=replay, algorithm=SacConfig())
    assert planned_workers(config) == 3
    assert [len(several_learners.workers_of(config, rank)) for rank in range(3)] == [1, 1, 1]
    monkeypatch.setattr(worker_numbers, "cores_of_this_machine", lambda: 4)
    assert planned_workers(config) == 3


def test_in_one_process_all_is_one_worker() -> None:
    config = following(runtime="local", address="")
    assert planned_workers(config) == 1
    assert not follows_cluster(config)
    assert check(config).warnings == ()


def test_in_a_cluster_that_is_joined_the_number_stays_open_and_the_plan_says_so() -> None:
    config = following()
    assert follows_cluster(config)
    assert with_number(config) is config
    plan = check(config, probe_cluster=False)
    text = plan_text(config, plan)
    assert "count: all" in text
    assert f"6 lanes{MORE_WORKERS}" in text
    (lag,) = plan.warnings
    assert lag.startswith("actors.count all: with more than 24 workers unrolls can be older than")


def test_a_plan_without_a_number_warns_where_a_few_workers_would_not_do() -> None:
    plan = check(following(lanes=2, learners=2, batch=600), probe_cluster=False)
    uneven, unplayed, _ = plan.warnings
    assert "2 lanes of each worker divide evenly over 3 tasks with few numbers" in uneven
    assert "actors.lanes 3 is even with any" in uneven
    assert "3 tasks are all played from 2 workers of each learner on" in unplayed


def test_an_older_runs_number_is_read_as_it_was_and_the_word_comes_back_from_its_json() -> None:
    for count in (7, "all"):
        config = following().model_copy(update={"actors": ActorConfig(count=count)})
        assert RunConfig.model_validate_json(config.model_dump_json()) == config
