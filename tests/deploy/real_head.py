"""A real Ray head on this machine, started with the arguments and variables of docker-compose.yml
or another launch file, and ended by its process group alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch_files import DOCKER, HOME, HeadSettings, compose, head_settings, ray_part

START_S = 120.0
TOKEN = "5e" * 32


@dataclass(frozen=True)
class Head:
    """Where the head listens, and what lets one in."""

    port: int
    dashboard_port: int
    agent_port: int
    folder: Path
    environment: Mapping[str, str]
    """Variables of the head's own processes, and of clients that may connect."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def jobs(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    def client(self, mode: str = "token", token: str | None = TOKEN) -> dict[str, str]:
        """Return the variables of a client with another token (a file of its own), or none."""
        file = self.folder / f"token-{mode}-{(token or 'none')[:4]}"
        variables = {k: v for k, v in self.environment.items() if not k.startswith("RAY_AUTH")}
        if token is not None:
            file.write_text(token)
        return {**variables, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": str(file)}

    def status(self, path: str, token: str | None = None) -> int:
        """Return the HTTP status of the dashboard for a path."""
        try:
            with urllib.request.urlopen(self._request(path, token), timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def ask(self, path: str, method: str = "GET") -> Any:
        """Return what the dashboard answers to whoever has the token."""
        request = self._request(path, TOKEN)
        request.method = method
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def _request(self, path: str, token: str | None) -> urllib.request.Request:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return urllib.request.Request(self.jobs + path, headers=headers)

    def repertory(
        self, *words: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process of its own: Ray reads its variables once."""
        return subprocess.run(
            [sys.executable, "-m", "deploy", *words],
            env={**(environment or self.environment), "PYTHONPATH": str(HOME)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=250,
        )


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def replaced(arguments: Sequence[str], values: Mapping[str, str | int]) -> list[str]:
    """Return arguments of `ray start` with the values of some flags replaced or added."""
    kept = [word for word in arguments if word.split("=")[0] not in values]
    return [*kept, *(f"{flag}={value}" for flag, value in values.items())]


@contextlib.contextmanager
def running_head(settings: HeadSettings | None = None, **variables: str) -> Iterator[Head]:
    """Start the head of a launch file: other ports, folders and sizes, nothing else changed."""
    settings = settings or head_settings()["compose"]
    # Ray's sockets have paths of at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))
    token = folder / "token"
    token.touch(mode=0o400)
    os.chmod(token, 0o600)
    token.write_text(TOKEN)
    os.chmod(token, 0o400)
    port, dashboard, agent, agent_grpc, runtime, metrics, client = free_ports(7)
    arguments = replaced(
        settings.arguments,
        {
            "--port": port,
            "--dashboard-host": "127.0.0.1",
            "--dashboard-port": dashboard,
            "--dashboard-agent-listen-port": agent,
            "--dashboard-agent-grpc-port": agent_grpc,
            "--runtime-env-agent-port": runtime,
            "--metrics-export-port": metrics,
            "--ray-client-server-port": client,
            "--node-ip-address": "127.0.0.1",
            "--object-store-memory": 200_000_000,
            "--temp-dir": str(folder / "ray"),
        },
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "WANDB_"))},
        **{k: v for k, v in settings.variables.items() if k not in ("HOME", "WANDB_DIR")},
        "RAY_AUTH_TOKEN_PATH": str(token),
        "WANDB_API_KEY_FILE": "",
        "WANDB_MODE": "disabled",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **variables,
    }
    head = Head(port, dashboard, agent, folder, environment)
    try:
        with _ray(arguments, head) as process:
            _await_health(head, process)
            yield head
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_actor_node(head: Head, cores: int) -> Iterator[None]:
    """Start a node of the compose file's actors beside the head, with so many cores."""
    agent, agent_grpc, runtime, metrics = free_ports(4)
    arguments = replaced(
        ray_part(compose()["services"]["actor"]["command"]),
        {
            "--address": head.address,
            "--num-cpus": cores,
            "--dashboard-agent-listen-port": agent,
            "--dashboard-agent-grpc-port": agent_grpc,
            "--runtime-env-agent-port": runtime,
            "--metrics-export-port": metrics,
            "--node-ip-address": "127.0.0.1",
            "--object-store-memory": 100_000_000,
        },
    )
    with _ray(arguments, head):
        yield


@contextlib.contextmanager
def _ray(arguments: Sequence[str], head: Head) -> Iterator[subprocess.Popen[bytes]]:
    """Run the image's entry point with arguments of `ray start`, as containers run it."""
    with (head.folder / "out").open("ab") as out:
        process = subprocess.Popen(
            [str(DOCKER / "with-ray"), *arguments],
            env=dict(head.environment),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=head.folder,
        )
    try:
        yield process
    finally:
        _end(process)


def _await_health(head: Head, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError):
            # The checks that the compose file asks the engine to make, of heads and of actors: a
            # head whose agent is not there yet takes no jobs.
            agent = f"http://127.0.0.1:{head.agent_port}/api/local_raylet_healthz"
            if head.status("/api/gcs_healthz") == 200:
                urllib.request.urlopen(agent, timeout=30).close()
                return
        said = (head.folder / "out").read_text(errors="replace")
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all it started: raylets leave its group, never its session."""
    import psutil

    family = [process.pid]
    with contextlib.suppress(psutil.NoSuchProcess):
        family += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(30)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(30)
