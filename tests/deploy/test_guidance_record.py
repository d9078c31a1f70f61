"""A guided run leaves who guided whom: in its rows, and as matrices over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from off_policy_runs import counting_control_config
from small_runs import COUNTING_TASKS, counting_config, new_run, rows

from deploy import cluster, local
from deploy.recorder import Recorder
from deploy.sinks import RunSinks, sinks_of
from envs.registry import task_specs
from repertory import checkpoint
from repertory.config import CheckpointConfig, GuideConfig, LoggingConfig, RunConfig, SacConfig
from repertory.metrics.guidance import read_matrices
from repertory.run_directory import RunDirectory

SHARES = ("guided", "guide_filtered", "guide_fallback")


def trained(root: Path, config: RunConfig, name: str, *, resume: bool = False) -> RunDirectory:
    run = RunDirectory.open(root / name) if resume else new_run(root, config, name)
    assert local.train(config, run, resume) == 0
    return run


def reported(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows of intervals in which steps came: no evaluations, nothing twice."""
    return [row for row in rows(run) if "actor/guided" in row]


def test_matrices_hold_every_step_once_across_a_resume(tmp_path: Path) -> None:
    quick = LoggingConfig(wandb="disabled", every_updates=2)
    config = counting_control_config(total_steps=600, logging=quick)
    run = trained(tmp_path, config, "run")
    before = read_matrices(run.guidance)
    assert len(before) > 3
    trained(tmp_path, config.model_copy(update={"total_steps": 900}), "run", resume=True)
    matrices = read_matrices(run.guidance)
    assert len(matrices) > len(before)
    last = reported(run)[-1]
    total = sum(matrix.counts for matrix in matrices)
    assert isinstance(total, np.ndarray)
    assert total.sum() == last["env_steps"] == matrices[-1].axes["env_steps"]
    per_task = [last[f"task/{task}/steps"] for task in COUNTING_TASKS]
    assert total.sum(axis=1).tolist() == per_task
    assert np.diag(total).sum() < total.sum()
    ends = [matrix.axes["env_steps"] for matrix in matrices]
    assert [matrix.since for matrix in matrices] == [0, *ends[:-1]]
    assert matrices[0].candidates == COUNTING_TASKS


def test_matrices_hold_every_step_once_after_a_crash_behind_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    # A matrix is due every 500 steps, a report every 8 updates, a checkpoint every 20.
    config = counting_control_config(
        total_steps=100_000,
        logging=LoggingConfig(wandb="disabled", every_updates=8),
        checkpoint=CheckpointConfig(every_updates=20),
    )
    run = new_run(tmp_path, config)

    def crash(at: local.LocalRun) -> bool:
        if at.loop.updates >= 37:
            raise RuntimeError("a crash")
        return False

    with pytest.raises(RuntimeError, match="a crash"):
        local.train(config, run, False, after_round=crash)
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    saved = int(state["counters"]["env_steps"])
    crashed = read_matrices(run.guidance)
    assert crashed[-1].axes["env_steps"] > saved
    # Steps that no matrix, or not even a report, had told of when the checkpoint was written.
    assert state["recorder"]["guides"]["counts"].any()
    assert any(own["guides"].any() for own in state["experience"]["records"].values())
    trained(tmp_path, config.model_copy(update={"total_steps": 1400}), "run", resume=True)
    matrices = read_matrices(run.guidance)
    total = sum(matrix.counts for matrix in matrices)
    assert isinstance(total, np.ndarray)
    assert total.sum() == reported(run)[-1]["env_steps"]
    ends = [matrix.axes["env_steps"] for matrix in matrices]
    assert [matrix.since for matrix in matrices] == [0, *ends[:-1]]


def test_rows_tell_the_shares_and_the_strongest_guide(tmp_path: Path) -> None:
    last = reported(trained(tmp_path, counting_control_config(total_steps=900), "run"))[-1]
    for task in COUNTING_TASKS:
        for share in SHARES:
            assert 0 <= last[f"task/{task}/{share}"] <= 1
        assert last[f"task/{task}/blocked"] == 0
        assert last[f"task/{task}/temperature"] > 0
    assert 0 < last["actor/guided"] < 1
    task, guide = last["actor/guide_strongest_task"], last["actor/guide_strongest_guide"]
    assert task != guide
    assert 0 < last["actor/guide_strongest_share"] <= last[f"task/{COUNTING_TASKS[task]}/guided"]


def test_the_share_of_blocked_tasks_is_of_those_the_gate_holds_back(tmp_path: Path) -> None:
    guide = GuideConfig(kind="ctpg", step=4, filter_from=10, block="temperature", block_every=5)
    algorithm = SacConfig(exploration_steps=20, exploration="policy", guide=guide)
    quick = LoggingConfig(wandb="disabled", every_updates=2)
    config = counting_control_config(total_steps=600, algorithm=algorithm, logging=quick)
    seen = reported(trained(tmp_path, config, "run"))
    shares = [row["guide/blocked"] for row in seen if "guide/blocked" in row]
    for row in seen:
        each = [row[f"task/{task}/blocked"] for task in COUNTING_TASKS]
        assert row["guide/blocked"] == pytest.approx(sum(each) / 3)
    assert shares[0] == 0
    assert 0 < max(shares) < 1


@pytest.mark.parametrize(
    "config",
    [
        counting_config(total_steps=300),
        counting_control_config(total_steps=300, algorithm=SacConfig(exploration_steps=20)),
    ],
)
def test_an_unguided_run_has_nothing_of_this(tmp_path: Path, config: RunConfig) -> None:
    run = trained(tmp_path, config, "run")
    assert not run.guidance.exists()
    assert not [name for row in rows(run) for name in row if "guid" in name]


def test_runs_that_try_candidates_out_tell_the_share_of_trials(tmp_path: Path) -> None:
    guide = GuideConfig(kind="bpt", step=4, trial_every=1, trial_episodes=1, block="none")
    algorithm = SacConfig(exploration_steps=0, exploration="policy", guide=guide)
    run = trained(tmp_path, counting_control_config(total_steps=600, algorithm=algorithm), "run")
    assert 0 < reported(run)[-1]["actor/guide_trial"] < 1
    assert "actor/guide_filtered" not in reported(run)[-1]


def test_a_file_that_is_never_closed_holds_all_matrices_but_the_last(tmp_path: Path) -> None:
    config = counting_control_config(total_steps=2000)
    run = new_run(tmp_path, config)
    tasks = task_specs(COUNTING_TASKS, config.environment, 0.99)
    sinks: RunSinks = sinks_of(config, tasks, run)
    recorder = Recorder(config, tasks, run, sinks)
    counts = np.array([[2, 1, 0], [3, 0, 0], [0, 0, 3]])
    for step in (9, 18, 23):
        recorder.row(step, 0, {}, counts)
    # A matrix is due every ten steps.
    assert [matrix.axes["env_steps"] for matrix in read_matrices(run.guidance)] == [18]
    recorder.close()
    assert [int(m.counts.sum()) for m in read_matrices(run.guidance)] == [18, 9]
    assert rows(run)[-1]["actor/guide_strongest_task"] == 1
    assert rows(run)[-1]["actor/guide_strongest_share"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("place", ["learner", "process"])
def test_on_a_cluster_too_the_matrices_hold_every_step_once(tmp_path: Path, place: str) -> None:
    config = counting_control_config(runtime="cluster", total_steps=4000)
    replay = config.replay.model_copy(update={"place": place})
    config = config.model_copy(update={"replay": replay})
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    total = sum(matrix.counts for matrix in read_matrices(run.guidance))
    assert isinstance(total, np.ndarray)
    steps = [row for row in rows(run) if "replay/rows" in row][-1]
    assert total.sum(axis=1).tolist() == [steps[f"task/{task}/steps"] for task in COUNTING_TASKS]
    assert total.sum() == steps["env_steps"]
    assert max(row["actor/guided"] for row in reported(run)) > 0
    assert [row for row in reported(run) if "actor/guide_filtered" in row]
