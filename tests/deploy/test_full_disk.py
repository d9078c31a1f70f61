"""Runs whose disk is full: in the middle they go on, and at the end nothing is lost unsaid."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import pytest
from heartbeats import at_heartbeats
from small_disk import SmallDisk
from small_runs import counting_config, events, rows

from deploy import cluster, last_checkpoint, local
from deploy.cluster.supervisor import Supervisor
from repertory import checkpoint
from repertory.config import CheckpointConfig, EvaluationConfig, RunConfig
from repertory.errors import RepertoryError
from repertory.run_directory import RunDirectory

EVERY = 20
"""Updates between two checkpoints."""


def config_of(**changes: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "checkpoint": CheckpointConfig(every_updates=EVERY),
        "evaluation": EvaluationConfig(at_end=False),
    }
    return counting_config(**(settings | changes))


def small_run(disk: SmallDisk, config: RunConfig) -> RunDirectory:
    run = RunDirectory.create(disk.place, config.recipe, "run", minimum_free_bytes=0)
    run.write_config(config, {})
    return run


class Freeing(logging.Handler):
    """Makes room on a disk once a log record says that nothing can be saved."""

    def __init__(self, disk: SmallDisk) -> None:
        super().__init__()
        self.seen = 0
        self._disk = disk

    def emit(self, record: logging.LogRecord) -> None:
        if "saving is tried again" in record.getMessage():
            self.seen += 1
            self._disk.free()


def filled_after_a_checkpoint(disk: SmallDisk, run: RunDirectory, then: Any = None) -> Any:
    """Return what to do after each round: fill the disk, once something is saved."""
    filled: list[int] = []

    def fill(running: local.LocalRun) -> bool:
        if not filled and checkpoint.list_checkpoints(run.checkpoints):
            filled.append(running.loop.updates)
            disk.fill(run.metrics)
            if then is not None:
                then()
        return bool(filled) and running.loop.updates >= filled[0] + EVERY // 2

    return fill


def test_a_run_whose_disk_stays_full_at_its_end_fails_and_says_what_is_lost(
    small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROOM_S", "AGAIN_S"):
        monkeypatch.setattr(last_checkpoint, name, 0.1)
    config = config_of()
    run = small_run(small_disk, config)
    with pytest.raises(RepertoryError) as failure:
        local.train(config, run, False, after_round=filled_after_a_checkpoint(small_disk, run))
    (kept,) = checkpoint.list_checkpoints(run.checkpoints)
    assert failure.value.exit_code != 0
    sentence = str(failure.value)
    assert f"the run is done, but could not save the checkpoint {run.checkpoints}" in sentence
    assert f"what came after {kept.name}, written at 2" in sentence
    assert sentence.endswith(f"goes on from there: repertory train --resume {run.path}")


def test_a_run_whose_disk_has_room_again_in_time_ends_whole(
    small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_checkpoint, "AGAIN_S", 0.1)
    config = config_of()
    run = small_run(small_disk, config)
    freeing = Freeing(small_disk)
    logging.getLogger("deploy.recorder").addHandler(freeing)
    try:
        fill = filled_after_a_checkpoint(small_disk, run)
        assert local.train(config, run, False, after_round=fill) == 0
    finally:
        logging.getLogger("deploy.recorder").removeHandler(freeing)
    assert freeing.seen == 1
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    assert state["counters"]["updates"] >= EVERY + EVERY // 2
    assert len(events(run, "checkpoint_failed")) == 1
    assert not events(run, "failed")


def test_a_stopped_run_whose_disk_is_full_ends_as_stopped_and_says_what_is_lost(
    small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("STOPPING_S", "AGAIN_S"):
        monkeypatch.setattr(last_checkpoint, name, 0.1)
    config = config_of()
    run = small_run(small_disk, config)
    fill = filled_after_a_checkpoint(small_disk, run, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert local.train(config, run, False, after_round=fill) == 143
    (kept,) = checkpoint.list_checkpoints(run.checkpoints)
    assert "the run was to stop, but could not save the checkpoint" in caplog.text
    assert f"what came after {kept.name}, written at 2" in caplog.text


def test_a_run_on_ray_goes_on_while_its_disk_is_full_and_counts_what_was_not_saved(
    small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(runtime="cluster", total_steps=10**9)
    run = small_run(small_disk, config)
    told = "training goes on and saving is tried again"
    full_at: list[int] = []
    freed: list[int] = []
    end: list[int] = []

    def watch(_: Supervisor, beat: Any) -> None:
        if not full_at:
            if checkpoint.list_checkpoints(run.checkpoints):
                small_disk.fill(run.metrics)
                full_at.append(beat.updates)
        elif not freed:
            if caplog.text.count(told) >= 2 and beat.updates > full_at[0] + 2 * EVERY:
                small_disk.free()
                freed.append(beat.updates)
        elif not end:
            counted = any(row.get("health/failed_checkpoints", 0) >= 2 for row in rows(run))
            updates = checkpoint.load_latest(run.checkpoints)[0]["counters"]["updates"]
            if counted and updates >= freed[0]:
                end.append(updates)
                os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, watch)
    assert cluster.train(config, run, False) == 143
    # Nothing was started again over it, and the end is saved.
    assert not events(run, "learner_restarted")
    assert len(events(run, "checkpoint_failed")) >= 2
    assert len(events(run, "checkpoint_saved_again")) == 1
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    assert state["counters"]["updates"] >= end[0]
    assert not events(run, "stopped_unsaved")
