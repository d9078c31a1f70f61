"""Masks on Ray: each unroll acted with the masks of its weights, put anew only when they change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import off_policy_runs
import pytest
import small_runs
import test_harmony_runs
from off_policy_runs import counting_control_config, pointmass_config
from ray import cloudpickle
from small_runs import assert_same, counting_config, new_run, rows
from test_harmony_runs import HARMONY

from deploy import cluster
from deploy.cluster import learners
from deploy.cluster.learner_host import LearnerHost
from deploy.evaluation import newest_scores
from repertory import checkpoint
from repertory.config import (
    CountingConfig,
    EvaluationConfig,
    GuideConfig,
    RunConfig,
    SacConfig,
)
from repertory.metrics.gradient_maps import read_maps
from repertory.run_directory import RunDirectory
from repertory.types import Unroll, Weights

# What the learner's process needs of the tests travels by value: it has no path to them.
for module in (sys.modules[__name__], off_policy_runs, small_runs, test_harmony_runs):
    cloudpickle.register_pickle_by_value(module)


class WatchingLearnerHost(LearnerHost):
    """A learner host that compares what workers acted with to what was published together."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._together: dict[int, int] = {}
        self._references: set[str] = set()
        self._checked = 0
        measure = self._learner.metrics

        def metrics() -> dict[str, float]:
            return measure() | {
                "test/unrolls_checked": float(self._checked),
                "test/publications": float(len(self._together)),
                "test/mask_objects": float(len(self._references)),
                "test/mask_versions": float(len(set(self._together.values()))),
            }

        self._learner.metrics = metrics  # type: ignore[method-assign]

    def _publish(self, weights: Weights) -> None:
        self._together[weights.version] = weights.mask_version
        super()._publish(weights)
        self._references.add(self._door.newest.masks[0].hex())

    async def insert(self, unroll: Unroll) -> Any:
        (version,) = set(unroll.policy_version.tolist())
        assert unroll.mask_version == self._together[version]
        self._checked += 1
        return await super().insert(unroll)


@pytest.mark.parametrize("place", ["learner", pytest.param("process", marks=pytest.mark.slow)])
def test_workers_act_with_the_masks_that_were_published_with_their_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", WatchingLearnerHost)
    pace = {"runtime": "cluster", "total_steps": 4_000, **HARMONY}
    config: RunConfig
    if place == "learner":
        config = counting_config(environment=CountingConfig(step_seconds=1e-4), **pace)
    else:
        config = counting_control_config(**pace)
        replay = config.replay.model_copy(update={"place": place})
        config = config.model_copy(update={"replay": replay})
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    last = [row for row in rows(run) if "test/publications" in row][-1]
    if place == "learner":
        assert last["test/unrolls_checked"] > 20
    assert 2 < last["test/mask_versions"] < last["test/publications"]
    assert last["test/mask_objects"] == last["test/mask_versions"]
    maps = read_maps(run.gradients)
    networks = {"actor_critic"} if place == "learner" else {"actor", "critic"}
    assert {one.network for one in maps if one.overlap is not None} == networks
    assert {score.task for score in newest_scores(run)} >= set(config.tasks)


@pytest.mark.slow
def test_a_resumed_run_on_ray_goes_on_with_the_masks_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", WatchingLearnerHost)
    quiet = EvaluationConfig(at_end=False)
    pace = {"runtime": "cluster", "evaluation": quiet, **HARMONY}
    config = counting_config(total_steps=2_000, **pace)
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    before, _, _ = checkpoint.load_latest(run.checkpoints)
    spent = config.model_copy(update={"total_steps": before["counters"]["env_steps"]})
    assert cluster.train(spent, RunDirectory.open(run.path), True) == 0
    untouched, _, _ = checkpoint.load_latest(run.checkpoints)
    for part in ("masks", "gradients", "network"):
        assert_same(untouched["learner"][part], before["learner"][part], part)
    assert_same(untouched["weights"], before["weights"], "weights")
    longer = config.model_copy(update={"total_steps": before["counters"]["env_steps"] + 2_000})
    assert cluster.train(longer, RunDirectory.open(run.path), True) == 0
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    first, last = (state["weights"]["masks"][0] for state in (before, after))
    assert last["version"] > first["version"] > 2
    owned = [np.unpackbits(one["bits"], axis=1).sum(1).tolist() for one in (first, last)]
    assert owned[0] == owned[1]


@pytest.mark.slow
def test_a_guided_run_under_masks_trains_stops_and_resumes_on_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "LearnerHost", WatchingLearnerHost)
    guide = GuideConfig(kind="ctpg", step=3, filter_from=5, block="none")
    algorithm = SacConfig(exploration_steps=20, guide=guide)
    pace = {"runtime": "cluster", "evaluation": EvaluationConfig(at_end=False), **HARMONY}
    config = pointmass_config(algorithm, saved=True, total_steps=1_500, **pace)
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    before, _, _ = checkpoint.load_latest(run.checkpoints)
    spent = config.model_copy(update={"total_steps": before["counters"]["env_steps"]})
    assert cluster.train(spent, RunDirectory.open(run.path), True) == 0
    untouched, _, _ = checkpoint.load_latest(run.checkpoints)
    for part in ("masks", "gradients", "networks", "guide"):
        assert_same(untouched["learner"][part], before["learner"][part], part)
    longer = config.model_copy(update={"total_steps": before["counters"]["env_steps"] + 1_500})
    assert cluster.train(longer, RunDirectory.open(run.path), True) == 0
    after, _, _ = checkpoint.load_latest(run.checkpoints)
    # Workers need the critics' masks too: the policy filter asks them.
    assert len(after["weights"]["masks"]) == 2
    for first, last in zip(before["weights"]["masks"], after["weights"]["masks"], strict=True):
        assert last["version"] > first["version"] > 2
        owned = [np.unpackbits(one["bits"], axis=1).sum(1).tolist() for one in (first, last)]
        assert owned[0] == owned[1]
    told = rows(run)
    assert [row for row in told if row.get("test/unrolls_checked", 0) > 20]
    for name in ("harmony_actor", "harmony_null_critic", "mask_overlap_actor", "mask_flips_critic"):
        assert [row for row in told if f"learner/{name}" in row], name
    assert [row for row in told if any(name.startswith("guide/") for name in row)]
    assert {one.network for one in read_maps(run.gradients)} == {"actor", "critic"}
