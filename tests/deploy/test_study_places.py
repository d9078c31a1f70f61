"""How many jobs of a study a machine has room for, and which GPU each of them gets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from patience import awaited

from deploy.study import local_places, needs
from deploy.study.local_places import LocalPlaces
from deploy.study.needs import Needs, at_once, needs_of
from deploy.study.places import Ended
from repertory.recipes.studies import get_study

DEBUG = get_study("study-debug")
MIB = 2**20


def test_there_are_as_many_jobs_at_once_as_cores_memory_and_gpus_have_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs, "cores_of_this_machine", lambda: 16)
    assert at_once(Needs(cores=1, memory=1, device="cpu"), gpus=0) == (16, "16 cores, 1 each")
    assert at_once(Needs(cores=3, memory=1, device="cpu"), gpus=0) == (5, "16 cores, 3 each")
    assert at_once(Needs(cores=1, memory=1, device="auto"), gpus=1) == (1, "1 GPUs, one each")
    count, reason = at_once(Needs(cores=1, memory=2**50, device="cpu"), gpus=0)
    assert count == 1
    assert "GiB of free memory" in reason
    assert at_once(Needs(cores=40, memory=1, device="cpu"), gpus=0)[0] == 1


def test_a_job_needs_what_the_largest_run_of_the_study_needs() -> None:
    alone, warnings = needs_of(DEBUG, ())
    assert (alone.cores, alone.device, warnings) == (1, "cpu", [])
    assert alone.memory > 100 * MIB
    spread, _ = needs_of(DEBUG, ("--runtime", "cluster", "--actors.count", "3"))
    assert spread.cores == 4
    assert spread.memory > alone.memory + 300 * MIB


def test_jobs_have_a_gpu_each_and_share_them_evenly_where_there_are_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(999)"
    monkeypatch.setattr(local_places, "START", told)
    places = LocalPlaces(4, ["2", "5"])
    logs = [tmp_path / f"{job}.txt" for job in range(5)]
    jobs = [places.start([], log) for log in logs[:4]]
    try:
        jobs[1].kill()
        jobs.append(places.start([], logs[4]))
        for log in logs[:1] + logs[2:]:
            awaited(partial(has_line, log), "a job's first line", for_s=120.0)
        assert [log.read_text().strip() for log in logs[:1] + logs[2:]] == ["2", "2", "5", "5"]
    finally:
        for job in jobs:
            job.kill()
    assert {job.ended() for job in jobs} == {Ended(-9)}


def has_line(log: Path) -> bool:
    return log.read_text().endswith("\n")
