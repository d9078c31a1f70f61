"""A driver that is killed: its actors end by themselves, and what stays is found and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import awaited

from deploy import left_over
from repertory import checkpoint
from repertory.metrics.jsonl import read_rows
from repertory.run_directory import RunDirectory

PATIENCE_S = 180.0


def carrying(identity: str) -> list[psutil.Process]:
    """Return the processes that carry a driver's identity."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(left_over.DRIVER) == identity:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Return a list of processes that are ended and waited for in the end."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def sleeping(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], env={**os.environ, **environment})


def test_only_processes_whose_driver_is_gone_are_left_over(
    command: Callable[..., Any], started: list[subprocess.Popen[bytes]]
) -> None:
    own: dict[str, str] = {}
    left_over.mark(own)
    pid, began, namespace = own[left_over.DRIVER].split(":")
    # A living driver; one of a number that another process has by now; one that is gone; one of
    # another container, whose numbers mean nothing here; and a process that nobody marked.
    gone = subprocess.Popen(["true"])
    gone.wait()
    identities = [
        own[left_over.DRIVER],
        f"{pid}:{float(began) - 60.0:.2f}:{namespace}",
        f"{gone.pid}:{began}:{namespace}",
        f"{gone.pid}:{began}:pid[1]",
        None,
    ]
    for identity in identities:
        started.append(sleeping({} if identity is None else {left_over.DRIVER: identity}))
    theirs = {started[1].pid, started[2].pid}
    pids = {process.pid for process in started}
    assert {one.pid for one in left_over.left_over()} & pids == theirs
    told = " ".join(command("doctor").out.split())
    assert f"sleep {started[1].pid}" in told
    assert f"sleep {started[0].pid}" not in told
    assert "`repertory doctor --clean` ends them" in told
    assert all(process.poll() is None for process in started)
    cleaned = command("doctor", "--clean")
    assert f"sleep {started[2].pid}" in " ".join(cleaned.out.split())
    assert "no process of a killed run" in command("doctor").out
    ended = [process.poll() is not None for process in started]
    assert ended == [False, True, True, False, False]


def night(folder: Path) -> subprocess.Popen[bytes]:
    """Return the one command of a run on Ray that may be sent again and again."""
    words = ("train", "debug-counting", "--runtime", "cluster", "--name", "night")
    settings = ("--resume", "auto", "--total_steps", "100000000", "--logging.wandb", "disabled")
    more = ("--actors.count", "1", "--checkpoint.every_updates", "20", "--logging.every_s", "0.5")
    return subprocess.Popen(
        [sys.executable, "-c", "from deploy.cli import main; main()", *words, *settings, *more],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Runs of other tests may have marked this process.
        env={name: value for name, value in os.environ.items() if name != left_over.DRIVER},
    )


@pytest.mark.timeout(4 * PATIENCE_S)
def test_a_killed_drivers_actors_end_by_themselves_and_its_run_goes_on_when_sent_again(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    run = RunDirectory(tmp_path / "runs" / "night")
    driver = night(tmp_path)
    started.append(driver)

    def kept() -> list[Path]:
        assert driver.poll() is None, run.log_file.read_text()
        return checkpoint.list_checkpoints(run.checkpoints)

    awaited(lambda: run.path.is_dir() and run.metrics.exists() and kept(), for_s=PATIENCE_S)
    (learner,) = [
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if "LearnerHost" in " ".join(child.cmdline())
    ]
    identity = learner.environ()[left_over.DRIVER]
    assert identity.startswith(f"{driver.pid}:")
    assert learner not in left_over.left_over()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    try:
        awaited(
            lambda: (
                not [one for one in carrying(identity) if "Host" in left_over.named(one)]
                and not learner.is_running()
            ),
            for_s=PATIENCE_S,
        )
        # Whatever is there still is told of, and nothing else.
        remains = {one.pid for one in carrying(identity)}
        assert remains <= {one.pid for one in left_over.left_over()} | {learner.pid}
    finally:
        left_over.end(carrying(identity))
    assert awaited(lambda: not carrying(identity), for_s=PATIENCE_S)

    # The killed one's lock is nobody's, and its files may end in the middle of a line.
    saved = checkpoint.list_checkpoints(run.checkpoints)[-1]
    before = len(read_rows(run.metrics))
    driver = night(tmp_path)
    started.append(driver)
    resumed = f"resumed from {saved.name}"
    awaited(lambda: kept()[-1] != saved, resumed, for_s=PATIENCE_S)
    assert resumed in run.log_file.read_text()
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(PATIENCE_S) == 128 + signal.SIGTERM
    state, newest, _ = checkpoint.load_latest(run.checkpoints)
    came = read_rows(run.metrics)[before:]
    assert all(row["env_steps"] >= checkpoint.step_of(saved) for row in came)
    assert came[-1]["env_steps"] <= checkpoint.step_of(newest)
    # Its workers are none of those that the killed one had.
    assert state["counters"]["incarnation"] > 0
