"""A run of several tasks leaves how their gradients lie to each other, as maps over training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from off_policy_runs import pointmass_config
from small_runs import COUNTING_TASKS, counting_config, new_run, rows
from test_documented_metrics import documented

from deploy import cluster, local
from repertory.config import GradientConfig, LoggingConfig, MaskConfig, RunConfig, SacConfig
from repertory.metrics.gradient_maps import WHOLE, read_maps
from repertory.run_directory import RunDirectory

HARMONY: dict[str, Any] = {
    "gradients": GradientConfig(method="harmony"),
    "masks": MaskConfig(sparsity=0.4, metrics_every=2),
}
OFTEN = LoggingConfig(wandb="disabled", every_updates=2, every_s=0.2)


def trained(root: Path, config: RunConfig, *, resume: bool = False) -> RunDirectory:
    run = RunDirectory.open(root / "run") if resume else new_run(root, config)
    assert local.train(config, run, resume) == 0
    return run


@pytest.mark.parametrize("method", ["pcgrad", "mean"])
def test_maps_hold_what_the_rows_tell_and_go_on_after_a_resume(tmp_path: Path, method: Any) -> None:
    settings = GradientConfig(method=method, metrics_every=2)
    config = counting_config(gradients=settings, logging=OFTEN, total_steps=600)
    run = trained(tmp_path, config)
    before = read_maps(run.gradients)
    assert len(before) > 2
    trained(tmp_path, config.model_copy(update={"total_steps": 900}), resume=True)
    maps = read_maps(run.gradients)
    assert len(maps) > len(before)
    ends = [one.axes["env_steps"] for one in maps]
    assert [one.since for one in maps][: len(before)] == [0, *ends[: len(before) - 1]]
    assert maps[0].tasks == COUNTING_TASKS
    assert {one.network for one in maps} == {WHOLE}
    # One update's cosines are in its row too: there as their mean over pairs.
    told = {r["updates"]: r["learner/gradient_cosine_mean"] for r in rows(run) if COSINE in r}
    single = [one for one in maps if one.measurements == 1 and one.axes["updates"] in told]
    assert single
    for one in single:
        pairs = one.cosine[np.triu_indices(3, 1)]
        assert told[one.axes["updates"]] == pytest.approx(np.nanmean(pairs), abs=1e-4)
        assert one.overlap is None


COSINE = "learner/gradient_cosine_mean"


@pytest.mark.parametrize("algorithm", ["vtrace", "sac"])
def test_a_run_under_masks_maps_each_network_with_the_overlap(
    tmp_path: Path, algorithm: str
) -> None:
    if algorithm == "vtrace":
        config = counting_config(total_steps=400, logging=OFTEN, **HARMONY)
        networks, ending = {WHOLE}, ""
    else:
        algorithm_settings = SacConfig(exploration_steps=20)
        config = pointmass_config(
            algorithm_settings, saved=False, total_steps=300, logging=OFTEN, **HARMONY
        )
        networks, ending = {"actor", "critic"}, "_actor"
    run = trained(tmp_path, config)
    maps = read_maps(run.gradients)
    assert {one.network for one in maps} == networks
    for one in maps:
        assert one.overlap is not None
        assert np.diag(one.overlap).tolist() == [1.0] * len(one.tasks)
        np.testing.assert_allclose(np.diag(one.cosine), 1.0, atol=1e-4)
        np.testing.assert_allclose(one.cosine, one.cosine.T, atol=1e-4)
    named = f"learner/mask_overlap{ending}"
    told = [row[named] for row in rows(run) if named in row]
    of_actor = [one for one in maps if one.network in (WHOLE, "actor")]
    last = of_actor[-1].overlap
    assert last is not None
    pairs = last[np.triu_indices(len(last), 1)]
    assert told[-1] == pytest.approx(pairs.mean(), abs=1e-4)
    assert set(json.loads(run.gradients.read_text().splitlines()[0])) <= documented()


def test_a_run_that_measures_nothing_leaves_no_maps(tmp_path: Path) -> None:
    config = counting_config(gradients=GradientConfig(metrics_every=0), total_steps=200)
    assert not trained(tmp_path, config).gradients.exists()


@pytest.mark.slow
def test_on_a_cluster_too_maps_come_with_the_reports(tmp_path: Path) -> None:
    config = counting_config(runtime="cluster", total_steps=3000, logging=OFTEN, **HARMONY)
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    maps = read_maps(run.gradients)
    updates = max(row["updates"] for row in rows(run))
    assert sum(one.measurements for one in maps) == updates // 2
    assert all(one.overlap is not None for one in maps)
