"""How signals ask a run to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from heartbeats import at_heartbeats
from small_runs import events

from benchmarks.run_processes import actors_of
from deploy.cluster.supervisor import Supervisor
from repertory import checkpoint
from repertory.run_directory import RunDirectory

WAITING = """
import sys, time
from deploy.signals import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop:
        time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(float(sys.argv[1]))
sys.exit(stop.exit_code)
"""


def waiting(seconds_after: float) -> subprocess.Popen[str]:
    """Return a process that is ready for signals and stops so long after the first."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(seconds_after)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_request_that_arrives_as_two_signals_still_ends_in_order(number: int) -> None:
    process = waiting(0.2)
    assert process.stdout is not None
    process.send_signal(number)
    assert process.stdout.readline() == "noted\n"
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert process.communicate()[1] == ""


def test_a_second_request_ends_at_once_and_says_so() -> None:
    process = waiting(600.0)
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "noted\n"
    time.sleep(1.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert process.communicate()[1] == "repertory: ended at once, without a last checkpoint\n"


@pytest.mark.parametrize(("number", "saved"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_run_that_is_to_stop_when_its_learner_is_dead_ends_as_stopped_and_says_what_is_lost(
    number: int, saved: bool, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Path] = []

    def kill_and_stop(_: Supervisor, beat: Any) -> None:
        kept = sorted(Path("runs/run/checkpoints").glob("step_*"))
        if not killed and beat.updates > 5 and bool(kept) == saved:
            killed.extend(kept or [Path()])
            actors_of("LearnerHost")[0].kill()
            os.kill(os.getpid(), number)

    at_heartbeats(monkeypatch, kill_and_stop)
    words = ("--name", "run", "--runtime", "cluster", "--actors.count", "1", "--total_steps", "1e9")
    every = ("--checkpoint.every_updates", "10") if saved else ("--checkpoint.every_s", "3600")
    outcome = command("train", "debug-counting", *words, *every)
    assert outcome.code == 128 + number, outcome.err
    run = RunDirectory(Path("runs/run"))
    (unsaved,) = events(run, "stopped_unsaved")
    assert "learner died" in unsaved["reason"]
    assert not events(run, "failed")
    warning = f"the run was to stop, but {unsaved['reason']}: "
    assert warning in outcome.err
    assert warning in run.log_file.read_text()
    if saved:
        newest = checkpoint.list_checkpoints(run.checkpoints)[-1].name
        assert unsaved["checkpoint"] == newest
        assert f": what came after {newest}, written at 2" in outcome.err
        assert outcome.out.endswith("stopped: repertory train --resume runs/run\n")
    else:
        assert "all of the run, which had no checkpoint yet, is not saved" in outcome.err
        assert "stopped before anything was saved: runs/run has no checkpoint" in outcome.out
