"""A cluster started with our files' settings lets nobody in without its token, and says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_head import TOKEN, Head, running_head

CLOSED = ("/api/version", "/api/jobs/", "/nodes", "/api/v0/actors", "/api/cluster_status")
TRAIN = ("train", "debug-counting", "--runtime", "cluster", "--actors.count", "1")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with running_head() as started:
        yield started


def test_http_is_refused_without_the_token_and_with_another(head):
    for path in CLOSED:
        assert head.status(path) == 401, path
        assert head.status(path, "0" * 64) == 403, path
    assert head.status("/api/version", TOKEN) == 200


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
