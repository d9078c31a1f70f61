"""A cluster started with our files' settings lets nobody in without its token, and says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from launch_files import HOME
from real_head import TOKEN, Head, running_head

CLOSED = ("/api/version", "/api/jobs/", "/nodes", "/api/v0/actors", "/api/cluster_status")
TRAIN = ("train", "debug-counting", "--runtime", "cluster", "--actors.count", "1")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with running_head() as started:
        yield started


def repertory(
    words: tuple[str, ...], environment: Mapping[str, str], folder: object
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own: Ray reads its variables once."""
    variables = {**environment, "PYTHONPATH": str(HOME)}
    line = [sys.executable, "-m", "deploy", *words]
    return subprocess.run(
        line, env=variables, cwd=str(folder), capture_output=True, text=True, timeout=200
    )


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
def test_a_driver_without_the_clusters_token_is_refused_and_told_why(
    head, tmp_path, mode, token, hint
):
    words = (*TRAIN, "--address", head.address)
    done = repertory(words, head.client(mode, token), tmp_path)
    assert done.returncode == 5, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"repertory: could not join the Ray cluster at {head.address}: ")
    assert hint in last
    assert TOKEN not in done.stderr + done.stdout


@pytest.mark.parametrize("token", ["0" * 64, None])
def test_a_job_without_the_clusters_token_is_refused_and_told_why(head, tmp_path, token):
    words = ("submit", "debug-counting", "--address", head.jobs)
    done = repertory(words, head.client("token", token), tmp_path)
    assert done.returncode == 5, done.stderr
    assert f"{head.jobs} does not let us in: " in done.stderr
    assert "token" in done.stderr.splitlines()[-1]
