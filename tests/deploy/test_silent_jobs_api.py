"""A Jobs API that accepts and is silent, at once or later: one sentence, in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
from small_runs import counting_config, new_run

from deploy.jobs import patient_client
from deploy.jobs.client import Jobs
from deploy.jobs.patient_client import PatientClient
from deploy.worker_places import WorkerBook, WorkerPlace
from repertory.errors import ClusterFailure

VERSION = {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session": ""}


class _Api(ThreadingHTTPServer):
    """Answers some paths, and to all others says nothing until it is closed."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.closing = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: _Api

    def do_GET(self) -> None:
        if self.path not in self.server.answers:
            self.server.closing.wait()
            return
        said = json.dumps(self.server.answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_PUT(self) -> None:
        self.server.closing.wait()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def api(**answers: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Answer these, by the path's last word, and let the test change them."""
    paths = {"version": "/api/version", "job": "/api/jobs/raysubmit_1"}
    found = {paths[name]: answer for name, answer in answers.items()}
    with _Api(found) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", found
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSWER_S", "UPLOAD_S", "SILENCE_S"):
        monkeypatch.setattr(patient_client, name, 0.5)


@pytest.fixture
def run_elsewhere(tmp_path: Path) -> str:
    """A run in a cluster, of whose worker's log this machine has nothing."""
    config = counting_config(runtime="cluster", address="10.0.0.5:6379")
    run = new_run(tmp_path, config)
    book = WorkerBook(run.path)
    book.enter(
        WorkerPlace(
            worker=0,
            incarnation=0,
            node="10.0.0.6",
            node_id="ab" * 28,
            process_id=7,
            actor_id="ac",
            folder="/not/here",
            files=("worker-cd-01-7.err",),
            tasks=("counting/0",),
        )
    )
    book.close()
    return str(run.path)


@pytest.mark.parametrize(
    "words", [("status",), ("submit", "debug-counting", "--no-follow"), ("logs", "RUN")]
)
@pytest.mark.parametrize("answers", [{}, {"version": VERSION}])
def test_a_silent_jobs_api_is_given_up_on_by_every_command(
    words: tuple[str, ...], answers: dict[str, Any], command: Any, run_elsewhere: str
) -> None:
    began = time.monotonic()
    with api(**answers) as (where, _):
        given = [run_elsewhere if word == "RUN" else word for word in words]
        outcome = command(*given, "--address", where)
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 5, outcome.err
    assert "it did not answer " in last
    assert where in last
    assert "Traceback" not in outcome.err
    assert time.monotonic() - began < 60


async def one_line(*_: Any) -> AsyncIterator[str]:
    """A job's output of which, after a line, nothing more comes."""
    yield "begun\n"
    await asyncio.sleep(10**6)


def job(status: str) -> dict[str, Any]:
    """What the API says of a job that was submitted."""
    return {
        "type": "SUBMISSION",
        "entrypoint": "python",
        "status": status,
        "submission_id": "raysubmit_1",
        "driver_exit_code": 3 if status == "FAILED" else None,
    }


def test_a_job_that_prints_nothing_is_asked_after_and_followed_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PatientClient, "tail_job_logs", one_line)
    with api(version=VERSION, job=job("RUNNING")) as (where, answers):
        later = threading.Timer(2.0, answers.update, [{"/api/jobs/raysubmit_1": job("FAILED")}])
        later.start()
        assert Jobs(where).follow("raysubmit_1") == 3
        # It was not given up on before.
        assert not later.is_alive()
        later.join()
    assert capsys.readouterr().out == "begun\n"


def test_a_job_out_of_sight_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientClient, "tail_job_logs", one_line)
    with api(version=VERSION) as (where, _):
        said = r"lost sight of job raysubmit_1 \(.*it did not answer .*\); it may go on"
        with pytest.raises(ClusterFailure, match=said):
            Jobs(where).follow("raysubmit_1")


def test_all_of_a_jobs_output_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def lines(*_: Any) -> AsyncIterator[str]:
        for number in range(5):
            yield f"{number}\n"

    monkeypatch.setattr(PatientClient, "tail_job_logs", lines)
    with api(version=VERSION, job=job("SUCCEEDED")) as (where, _):
        assert Jobs(where).follow("raysubmit_1") == 0
    assert capsys.readouterr().out == "0\n1\n2\n3\n4\n"
