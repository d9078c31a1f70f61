"""A cluster started with our files' settings lets nobody in without its token, and says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from launch_files import compose, head_settings
from real_head import TOKEN, Head, free_ports, running_head

CLOSED = ("/api/version", "/api/jobs/", "/nodes", "/api/v0/actors", "/api/cluster_status")
TRAIN = ("train", "debug-counting", "--runtime", "cluster", "--actors.count", "1")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with running_head() as started:
        yield started


def refuses_http(head: Head) -> None:
    for path in CLOSED:
        assert head.status(path) == 401, path
        assert head.status(path, "0" * 64) == 403, path
    assert head.status("/api/version", TOKEN) == 200


def test_http_is_refused_without_the_token_and_with_another(head):
    refuses_http(head)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["ray-up", "kuberay", "slurm"])
def test_clusters_of_the_other_files_let_nobody_in_either(file):
    with running_head(head_settings()[file]) as head:
        refuses_http(head)
        for mode, token in (("token", "0" * 64), ("disabled", None)):
            environment = head.client(mode, token)
            done = head.repertory(*TRAIN, "--address", head.address, environment=environment)
            assert done.returncode == 5, done.stderr
            assert f"could not join the Ray cluster at {head.address}: " in done.stderr


@pytest.mark.parametrize("service", ["head", "actor"])
def test_health_checks_of_the_containers_need_no_token_and_fail_where_nothing_answers(
    head, service
):
    words = compose()["services"][service]["healthcheck"]["test"]
    assert words[:2] == ["CMD", "python"]
    (nobody,) = free_ports(1)
    for dashboard, agent, healthy in (
        (head.dashboard_port, head.agent_port, True),
        (nobody, nobody, False),
    ):
        program = words[-1].replace(":8265/", f":{dashboard}/").replace(":52365/", f":{agent}/")
        assert program != words[-1]
        done = subprocess.run([sys.executable, *words[2:-1], program], capture_output=True)
        assert (done.returncode == 0) == healthy, done.stderr


@pytest.mark.parametrize(
    ("mode", "token", "hint"),
    [
        ("token", "0" * 64, "token-0000 may not be the cluster's"),
        ("token", None, "it may require a token, and there is no file"),
        ("disabled", None, "RAY_AUTH_MODE is disabled: set RAY_AUTH_MODE=token"),
    ],
)
def test_a_driver_without_the_clusters_token_is_refused_and_told_why(head, mode, token, hint):
    environment = head.client(mode, token)
    done = head.repertory(*TRAIN, "--address", head.address, environment=environment)
    assert done.returncode == 5, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"repertory: could not join the Ray cluster at {head.address}: ")
    assert hint in last
    assert TOKEN not in done.stderr + done.stdout


@pytest.mark.parametrize("token", ["0" * 64, None])
def test_a_job_without_the_clusters_token_is_refused_and_told_why(head, token):
    environment = head.client("token", token)
    done = head.repertory(
        "submit", "debug-counting", "--address", head.jobs, environment=environment
    )
    assert done.returncode == 5, done.stderr
    assert f"{head.jobs} does not let us in: " in done.stderr
    assert "token" in done.stderr.splitlines()[-1]
