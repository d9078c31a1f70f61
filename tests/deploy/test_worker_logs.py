"""Logs of workers: marked lines, a list of where they are, and the command that finds them."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from heartbeats import at_heartbeats
from real_head import running_head
from small_runs import counting_config, events, new_run

from deploy import cluster
from deploy.cluster.supervisor import Supervisor
from deploy.cluster.worker_log import MOST_KEPT, KeptForDriver, MarkedFormatter, mark
from deploy.worker_places import FILE, WorkerBook, WorkerPlace, last_lines, read_places
from repertory.config import ActorConfig, CountingConfig, EvaluationConfig
from repertory.run_directory import RunDirectory

WITHOUT_FILES: dict[str, Any] = {"folder": "/nowhere/logs", "files": ("worker-ab-7.err",)}


def place(worker: int, **changes: Any) -> WorkerPlace:
    settings: dict[str, Any] = {
        "worker": worker,
        "incarnation": 0,
        "node": f"10.0.0.{worker + 5}",
        "node_id": f"{worker:02x}" * 28,
        "process_id": 100 + worker,
        "actor_id": "ac",
        "tasks": ("counting/0", f"counting/{worker + 1}"),
    }
    return WorkerPlace(**(settings | WITHOUT_FILES | changes))


def run_with(root: Path, *places: WorkerPlace, **changes: Any) -> RunDirectory:
    run = new_run(root, counting_config(runtime="cluster", **changes))
    book = WorkerBook(run.path)
    for one in places:
        book.enter(one)
    book.close()
    return run


@pytest.fixture
def logged() -> Iterator[list[logging.Handler]]:
    """Handlers to hang on the root logger, which are taken off again."""
    root = logging.getLogger()
    level = root.level
    handlers: list[logging.Handler] = []
    yield handlers
    root.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)
        handler.close()


def test_the_run_knows_every_process_of_its_workers_and_has_what_they_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[logging.Handler], command: Any
) -> None:
    environment = CountingConfig(fail_task="counting/1", fail_step=30, step_seconds=2e-5)
    config = counting_config(
        runtime="cluster",
        environment=environment,
        # Enough for the failures of a run of seconds.
        actors=ActorConfig(count=2, lanes=2, precision="fp32", environment_failures=10**6),
        evaluation=EvaluationConfig(at_end=False),
        total_steps=10**9,
    )
    run = new_run(tmp_path, config)
    logged.append(run.log_handler())
    logging.getLogger().addHandler(logged[0])
    logging.getLogger().setLevel(logging.INFO)
    killed: list[int] = []

    def kill_and_end(supervised: Supervisor, _: Any) -> None:
        said = run.log_file.read_text() if run.log_file.exists() else ""
        if not killed and "EnvironmentFailure: counting/1" in said:
            killed.append(supervised.worker_process_ids()[0])
            os.kill(killed[0], signal.SIGKILL)
        elif killed and len(read_places(run.path)) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    at_heartbeats(monkeypatch, kill_and_end)
    assert cluster.train(config, run, False) == 143
    places = read_places(run.path)
    assert [(one.worker, one.incarnation) for one in places if one.worker == 0] == [(0, 0), (0, 1)]
    assert {one.worker for one in places} == {0, 1}
    assert all(one.time and one.node_id and one.actor_id for one in places)
    assert places[[one.worker for one in places].index(0)].process_id == killed[0]
    tasks = {one.worker: one.tasks for one in places}
    assert tasks == {0: ("counting/0", "counting/1"), 1: ("counting/2", "counting/0")}
    # Each process' own log is where the list says, and every line of ours begins with its mark.
    for one in places:
        (errors,) = [path for path in one.paths if path.suffix == ".err"]
        assert str(one.process_id) in errors.name
        marked = f"worker {one.worker} on {one.node} [{', '.join(one.tasks)}] "
        ours = [line for line in last_lines(errors, 10**6) if "counting/" in line]
        assert all(line.startswith(marked) for line in ours)
        # The replacement may have been stopped before its first failure.
        assert ours or one.process_id != killed[0]
        assert not ours or "counting/1" in one.tasks
    # What environments failed with is in the run's own log, and so is what the dead one had said.
    first = f"worker 0 on {places[0].node} [counting/0, counting/1] "
    said = run.log_file.read_text()
    assert f"{first}repertory.errors.EnvironmentFailure: counting/1 (lane 1) failed" in said
    assert f"INFO deploy.cluster.worker_lines: {first}2" in said
    assert "worker 0 had said, in " in said
    assert len(events(run, "worker_replaced")) == 1
    # The run is over, and its logs are found by task, node and worker.
    outcome = command("logs", str(run.path), "--task", "counting/2", "--tail", "5")
    assert outcome.code == 0, outcome.err
    assert [line.split(" (")[0] for line in outcome.out.splitlines() if line[0] == "w"] == [
        "worker 1"
    ]
    outcome = command("logs", str(run.path), "--worker", "0", "--node", places[0].node)
    assert outcome.code == 0, outcome.err
    assert f"process {killed[0]}, since 2" in outcome.out
    assert f"    {first}" in outcome.out
    assert outcome.out.count("(incarnation ") == 2


def test_every_line_of_a_record_begins_with_the_mark_and_hides_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "precious-key")
    tasks = [f"counting/{index}" for index in range(64)]
    marked = mark(3, "10.0.0.5", tasks)
    assert marked == "worker 3 on 10.0.0.5 [counting/0, counting/1, counting/2, 61 more]"
    assert mark(3, "h", tasks[:3]) == "worker 3 on h [counting/0, counting/1, counting/2]"
    try:
        raise RuntimeError("no emulator\nwith precious-key")
    except RuntimeError as error:
        record = logging.LogRecord("envs.x", logging.INFO, "", 0, "failed", (), (None, error, None))
    lines = MarkedFormatter(marked).format(record).splitlines()
    assert len(lines) > 2
    assert all(line.startswith(f"{marked} ") for line in lines)
    assert "precious-key" not in "\n".join(lines)


WARNING = """
import json, logging, warnings
from deploy.cluster import worker_log
kept = worker_log.begin(3, ["counting/0"])
warnings.warn("outdated", DeprecationWarning)
logging.getLogger("library").info("by the way")
print(json.dumps(kept.take()))
"""


def test_a_workers_process_marks_python_warnings_and_what_libraries_log() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", WARNING], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines
    assert all(re.match(r"worker 3 on \S+ \[counting/0\] ", line) for line in lines), lines
    assert "DeprecationWarning: outdated" in done.stderr
    assert "INFO library: by the way" in done.stderr
    (kept,), _ = json.loads(done.stdout)
    assert "DeprecationWarning: outdated" in kept


def test_warnings_are_kept_for_the_driver_up_to_a_bound_and_the_rest_is_counted() -> None:
    kept = KeptForDriver()
    logger = logging.Logger("library")
    logger.addHandler(kept)
    for index in range(MOST_KEPT + 5):
        logger.warning("warning %d", index)
        logger.info("information")
    long = "\n".join(["x" * 99] * 1000) + "\nthe end"
    logger.error(long)
    lines, dropped = kept.take()
    assert dropped == 6
    assert len(lines) == MOST_KEPT
    assert lines[0] == "warning 6"
    assert len(lines[-1]) < 5000
    assert lines[-1].endswith("the end")
    assert kept.take() == ([], 0)
    # What environments say is told whatever its level.
    logger.name = "envs.failures"
    logger.info("counting/0 failed")
    assert kept.take() == (["counting/0 failed"], 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--task", "countin/1"), "no task 'countin/1' in the run's workers.jsonl. Did you mean"),
        (("--node", "10.0.0.55"), "no node '10.0.0.55' in the run's workers.jsonl. Did you mean"),
        (("--worker", "7"), "no worker '7' in the run's workers.jsonl."),
        (("--worker", "-1"), "worker"),
        (("--tail", "-1"), "tail"),
        (
            ("--task", "counting/1", "--worker", "1"),
            "no worker has all that is asked for: counting/1, worker 1",
        ),
    ],
)
def test_what_no_worker_has_is_refused_with_what_is_near(
    tmp_path: Path, command: Any, words: tuple[str, ...], sentence: str
) -> None:
    run = run_with(tmp_path, place(0), place(1))
    outcome = command("logs", str(run.path), *words)
    assert outcome.code == 2
    assert sentence in outcome.sentence


def test_a_run_without_workers_of_its_own_says_where_its_log_is(
    tmp_path: Path, command: Any
) -> None:
    local = new_run(tmp_path, counting_config(), "local")
    outcome = command("logs", str(local.path))
    assert outcome.code == 2
    assert "a run of the local runtime, which has no workers" in outcome.sentence
    assert outcome.sentence.endswith("log.txt")
    older = new_run(tmp_path, counting_config(runtime="cluster"), "older")
    outcome = command("logs", str(older.path))
    assert outcome.code == 2
    assert "has no workers.jsonl: no worker has come yet" in outcome.sentence
    assert "there is no run directory" in command("logs", "nowhere").sentence


def test_files_that_are_out_of_reach_are_named_with_node_and_folder(
    tmp_path: Path, command: Any
) -> None:
    run = run_with(tmp_path, place(0), place(1), address="10.0.0.5:6379")
    outcome = command("logs", str(run.path), "--address", "http://127.0.0.1:9")
    assert outcome.code == 5
    assert "  /nowhere/logs/worker-ab-7.err" in outcome.out
    for line, node in zip(outcome.err.splitlines(), ("10.0.0.5", "10.0.0.6"), strict=True):
        assert f"the logs on {node} are in /nowhere/logs there (no Jobs API answers" in line
    # A cluster of the run's own has gone with it, and nobody is asked.
    own = run_with(tmp_path / "own", place(0))
    outcome = command("logs", str(own.path), "--address", "http://127.0.0.1:9")
    assert outcome.code == 5
    assert "in a cluster that the run had for itself" in outcome.sentence
    # Where they are can always be asked.
    assert command("logs", str(own.path), "--tail", "0").code == 0


def test_a_torn_line_of_the_list_is_left_out_and_a_foreign_one_refused(
    tmp_path: Path, command: Any
) -> None:
    run = run_with(tmp_path, place(0))
    file = run.path / FILE
    whole = file.read_text()
    file.write_text(whole + whole[:40])
    assert [one.worker for one in read_places(run.path)] == [0]
    file.write_text(json.dumps({"worker": 1}) + "\n")
    outcome = command("logs", str(run.path))
    assert outcome.code == 2
    assert "workers.jsonl is damaged" in outcome.sentence


@pytest.mark.slow
def test_logs_on_another_machine_come_through_the_dashboard_with_the_token(
    tmp_path: Path,
) -> None:
    environment = ("--environment.fail_task", "counting/1", "--environment.fail_step", "30")
    with running_head() as head:
        where = ("--address", head.address, "--runs_dir", str(tmp_path), "--name", "far")
        short = ("--total_steps", "400", "--evaluation.at_end=False")
        short = ("--runtime", "cluster", "--actors.count", "1", *short)
        done = head.repertory("train", "debug-counting", *where, *short, *environment)
        assert done.returncode == 0, done.stderr
        run = tmp_path / "far"
        # As the list looks from a machine that does not have the folder.
        rows = [json.loads(line) for line in (run / FILE).read_text().splitlines()]
        lines = [json.dumps(row | {"folder": "/nowhere/logs"}) + "\n" for row in rows]
        (run / FILE).write_text("".join(lines))
        ask = ("logs", str(run), "--address", head.jobs, "--task", "counting/1")
        done = head.repertory(*ask)
        assert done.returncode == 0, done.stderr
        assert f"    worker 0 on {rows[0]['node']} [counting/0, " in done.stdout
        assert done.stderr == ""
        done = head.repertory(*ask, environment=head.client(token="wrong" * 8))
        assert done.returncode == 5
        assert f"the logs on {rows[0]['node']} are in /nowhere/logs there (" in done.stderr
        assert "RAY_AUTH_TOKEN_PATH" in done.stderr or "token of" in done.stderr
        assert "Traceback" not in done.stderr
        # A file that Ray has not got any more, on a node that is there.
        gone = [
            json.dumps(json.loads(line) | {"files": ["worker-00.err"]}) + "\n" for line in lines
        ]
        (run / FILE).write_text("".join(gone))
        done = head.repertory(*ask)
        assert done.returncode == 5
        assert "was asked for worker-00.err and failed" in done.stderr
        assert len(done.stderr.splitlines()) == 1
