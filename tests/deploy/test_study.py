"""`repertory study` with processes of its own: run, fail and try again, stop and go on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import awaited

from repertory import checkpoint
from repertory.recipes.studies import Study

TINY = Study(
    name="study-tiny",
    summary="one agent, one held-out task",
    recipe="debug-counting",
    pretraining=(("counting/0",),),
    held_out=("counting/3",),
    pretraining_steps=300,
    finetuning_steps=200,
    settings=("--actors.count", "1", "--learner.batch_size", "2"),
)
DEADLINE_S = 240.0


def statuses(directory: Path) -> dict[str, dict[str, Any]]:
    jobs = json.loads((directory / "study.json").read_text())["jobs"]
    return {job["name"]: job["progress"] for job in jobs}


def test_a_failed_job_is_reported_with_its_last_line_and_tried_again_and_done_ones_are_not(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.commands.study.get_study", lambda _: TINY)
    study = tmp_path / "runs" / TINY.name
    listed = command("study", TINY.name, "--seeds", "1", "--dry_run")
    assert (listed.code, listed.files) == (0, [])
    assert "3 jobs, 0 done" in listed.out
    assert command("study", TINY.name, "--seeds", "1", "--jobs", "2").code == 0
    first = statuses(study)
    assert {one["status"] for one in first.values()} == {"done"}

    name = "finetune-1-3-seed1"
    wait_again(study, "finetune")
    (study / name).rename(study / f"kept-{name}")
    (found,) = checkpoint.list_checkpoints(study / "pretrain-1-seed1" / "checkpoints")
    whole = (found / checkpoint.TREE).read_bytes()
    (found / checkpoint.TREE).write_bytes(b"{}")
    broken = command("study", TINY.name, "--seeds", "1", "--jobs", "2")
    assert broken.code == 1
    (line,) = broken.err.splitlines()
    assert line.startswith("repertory: finetune-1-3-seed1 failed: no checkpoint in ")
    assert "is damaged" in line
    assert broken.out.count("started") == 1
    assert "1 jobs are left: repertory study study-tiny" in broken.out

    (found / checkpoint.TREE).write_bytes(whole)
    mended = command("study", TINY.name, "--seeds", "1")
    assert mended.code == 0
    assert "finetune-1-3-seed1 done" in mended.out
    assert mended.out.count("started") == 1
    last = statuses(study)
    assert last["finetune-1-3-seed1"]["attempts"] == first["finetune-1-3-seed1"]["attempts"] + 2
    assert last["pretrain-1-seed1"] == first["pretrain-1-seed1"]
    # Task 3's episodes return 0 + 1 + ... + 9 whatever is played.
    assert mended.out.count("45.0 (1)") == 3
    assert f"repertory report runs/{TINY.name} --reference runs/{TINY.name}/scratch-*" in mended.out

    # A run that had not begun to learn when its study was moved finds its parent where it is now.
    moved = study.rename(tmp_path / "moved")
    shutil.rmtree(moved / f"kept-{name}")
    shutil.rmtree(moved / name / "checkpoints")
    (moved / name / "checkpoints").mkdir()
    wait_again(moved, "finetune")
    assert command("study", TINY.name, "--seeds", "1", "--dir", "moved").code == 0
    parent = json.loads((moved / name / "config.json").read_text())["config"]["initial"]["parent"]
    assert parent == "moved/pretrain-1-seed1"


def wait_again(study: Path, kind: str) -> None:
    """Note in a study's ledger that jobs of a kind are still to be run."""
    ledger = json.loads((study / "study.json").read_text())
    for job in ledger["jobs"]:
        if job["kind"] == kind:
            job["progress"]["status"] = "waiting"
    (study / "study.json").write_text(json.dumps(ledger))


LONG = """
import sys
from types import MappingProxyType
from repertory.recipes import studies
study = studies.Study(
    name="study-long", summary="", recipe="debug-counting", pretraining=(("counting/0",),),
    held_out=("counting/3",), pretraining_steps=1_000_000_000, finetuning_steps=200,
)
studies.STUDIES = MappingProxyType({study.name: study})
from deploy.cli import main
main(["study", "study-long", "--dir", "study", "--seeds", "2", "--jobs", "2"])
"""


@pytest.mark.slow
def test_ctrl_c_stops_all_runs_with_a_checkpoint_and_the_next_call_goes_on_with_them(
    tmp_path: Path,
) -> None:
    runs = [tmp_path / "study" / f"pretrain-1-seed{seed}" for seed in (1, 2)]
    for wanted in ("started with", "resumed with"):
        process = subprocess.Popen(
            [sys.executable, "-c", LONG], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        for run in runs:
            awaited(partial(has, run / "log.txt", wanted), f"a run that {wanted}", for_s=DEADLINE_S)
            metrics = run / "metrics.jsonl"
            awaited(partial(grew, metrics, size(metrics)), "rows", for_s=DEADLINE_S)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 130
        assert "stopped: repertory study study-long --dir study" in output
        assert not [child for child in children if child.is_running()]
        for run in runs:
            assert checkpoint.list_checkpoints(run / "checkpoints")
    kept = statuses(tmp_path / "study")
    assert [kept[run.name]["status"] for run in runs] == ["waiting", "waiting"]
    assert [kept[run.name]["attempts"] for run in runs] == [2, 2]


def has(file: Path, words: str) -> bool:
    return file.exists() and words in file.read_text()


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def grew(file: Path, before: int) -> bool:
    return size(file) > before
