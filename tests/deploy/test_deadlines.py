"""Deadlines of calls that contain other calls: the inner one is heard of first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import requests

import deploy
from deploy.cluster import faults, learners, worker_host
from deploy.jobs import patient_client
from deploy.jobs.patient_client import PatientClient


def test_a_slow_checkpoint_of_a_large_replay_is_not_taken_for_a_lost_learner() -> None:
    # The driver asks the learner for its state, and the learner its replay for the contents.
    assert learners.CHECKPOINT_S > faults.STATE_S
    assert faults.STATE_S > faults.ANSWER_S


TIMED = ("ray.get", "ray.wait", "urlopen", "socket.create_connection", "requests.request")
"""Calls that wait for another process for as long as they are told, or for ever."""
WITHOUT_END = ("JobSubmissionClient",)
"""What waits for ever whatever it is told: ours is made of it, and waits not."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(Path(deploy.__file__).parent.rglob("*.py")):
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def calls_in(tree: ast.AST) -> Iterator[tuple[ast.Call, str, set[str | None]]]:
    """Yield calls, with the name of what is called and the names of what it is given."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            yield call, ast.unparse(call.func), {keyword.arg for keyword in call.keywords}


def test_every_answer_of_another_process_is_awaited_with_a_deadline() -> None:
    bare, found = [], set()
    for file, tree in trees():
        for call, name, given in calls_in(tree):
            timed = [one for one in TIMED if name == one or name.endswith("." + one)]
            found.update(timed)
            if name.endswith(WITHOUT_END) or (timed and "timeout" not in given):
                bare.append(f"{file.name}:{call.lineno}")
    assert {"ray.get", "ray.wait", "socket.create_connection"} <= found
    # A node that falls silent without a word answers never.
    assert bare == []


def test_before_ray_connects_to_a_cluster_that_has_greeted() -> None:
    # `ray.init` has no deadline of its own, and waits without end for what accepts and is silent.
    checked = {"address='local'": 0, "greeted": 0}
    for file, tree in trees():
        inside = {
            id(call): function
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for call, _, _ in calls_in(function)
        }
        for call, name, _ in calls_in(tree):
            if name != "ray.init":
                continue
            if "address='local'" in [ast.unparse(keyword) for keyword in call.keywords]:
                checked["address='local'"] += 1
                continue
            before = [
                other for one, other, _ in calls_in(inside[id(call)]) if one.lineno < call.lineno
            ]
            assert "greet" in before, f"{file.name}:{call.lineno}"
            checked["greeted"] += 1
    assert all(checked.values())


def test_the_jobs_client_gives_every_request_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def request(method: str, _: str, **settings: Any) -> Any:
        given.append((method, settings["timeout"]))
        raise requests.exceptions.ReadTimeout

    monkeypatch.setattr(requests, "request", request)
    monkeypatch.setattr(PatientClient, "_check_connection_and_version", lambda *_, **__: None)
    client = PatientClient("http://127.0.0.1:8265")
    for method in ("GET", "POST", "PUT", "DELETE"):
        with pytest.raises(TimeoutError, match=f"did not answer {method} /api/packages in time"):
            client._do_request(method, "/api/packages")
    connect_s, answer_s = patient_client.CONNECT_S, patient_client.ANSWER_S
    assert given[:2] == [("GET", (connect_s, answer_s)), ("POST", (connect_s, answer_s))]
    assert given[2] == ("PUT", (connect_s, patient_client.UPLOAD_S))


def test_a_worker_waits_for_its_first_answer_as_long_as_a_learner_may_take_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(ray, "get", lambda _, *, timeout: waited.append(timeout))
    answers = worker_host.Answers()
    for _ in range(3):
        answers.take(None, "a delivery")
    # A large replay is restored before the door opens, which the driver waits for.
    assert waited == [faults.OPEN_S, faults.ANSWER_S, faults.ANSWER_S]
    assert faults.OPEN_S >= 3 * faults.START_S + faults.STATE_S
