"""Ray's Jobs API with deadlines and sentences of our own: submit, follow, look."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.address import probe, token_hint
from repertory.errors import BadInput, ClusterFailure

log = logging.getLogger(__name__)

LEFT_TO_ITSELF = 130
LOG_S = 30
"""Deadline of a file's last lines, which the dashboard asks the file's node for."""
_UNDER_WAY = ("PENDING", "RUNNING")
_MOST = 10_000
_CURE = (
    "heads listen to their own machine alone, so reach one through "
    "`ssh -L 8265:127.0.0.1:8265 HEAD` and http://127.0.0.1:8265"
)


def host_and_port(address: str) -> str:
    """Return HOST:PORT of http://HOST:PORT; BadInput for any other form."""
    parts = urlsplit(address)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError):
        port = 0
    if not parts.hostname or not port or parts.path.strip("/"):
        raise BadInput(
            f"address '{address}' is not that of a Jobs API: http://HOST:PORT, the head's "
            "dashboard (port 8265 unless changed)"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Job:
    """One job as its cluster knows it."""

    identity: str
    run: str
    """Name of the run, or the command of a job that is none of ours."""
    status: str
    started_ms: int | None
    last_line: str

    @property
    def ended(self) -> bool:
        """Whether it is over, whatever its end."""
        return self.status not in _UNDER_WAY


@dataclass(frozen=True, slots=True)
class Node:
    """One living node."""

    identity: str
    address: str
    role: str
    market: str
    resources: dict[str, float]


class Jobs:
    """The jobs of one cluster, and the nodes they have."""

    def __init__(self, address: str) -> None:
        """Connect, within seconds, or raise ClusterFailure with what to look at."""
        probe(host_and_port(address), what="Jobs API", cure=_CURE)
        self._address = address
        from ray.exceptions import AuthenticationError

        from deploy.jobs.patient_client import PatientClient

        try:
            self._client = PatientClient(address)
        except AuthenticationError as error:
            raise ClusterFailure(f"{address} does not let us in: {token_hint()}") from error
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            # requests' own errors are OSErrors, and ValueErrors where no JSON comes back.
            raise ClusterFailure(
                f"what answers at {address} is not Ray's Jobs API: {error}"
            ) from error

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Say in a sentence that the API refused, or broke off, what it was asked."""
        from ray.exceptions import RayError
        from ray.util.state.exception import RayStateApiException

        try:
            yield
        except (OSError, RuntimeError, ValueError, RayError, RayStateApiException) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0] if lines else type(error).__name__
            raise ClusterFailure(
                f"the Jobs API at {self._address} was asked {what} and failed: {reason}"
            ) from error

    def submit(self, name: str, entrypoint: str, folder: Path | None) -> str:
        """Send a run under way and return the job's identity."""
        environment: dict[str, Any] = {"working_dir": str(folder)} if folder else {}
        # Configs, metadata and job environments can be read by all who reach the dashboard: keys
        # come from files on the head.
        with self._asked("to take the job"):
            identity: str = self._client.submit_job(
                entrypoint=entrypoint, runtime_env=environment, metadata={"run": name}
            )
        return identity

    def follow(self, identity: str) -> int:
        """Print a job's output until it ends, and return its exit code.

        Ctrl-C ends the printing and not the job.
        """

        def still_there() -> bool:
            with self._asked(f"whether job {identity} goes on"):
                return str(self._client.get_job_status(identity)) in _UNDER_WAY

        async def printed() -> None:
            async for lines in self._client.lines(identity, still_there):
                print(lines, end="", flush=True)

        try:
            asyncio.run(printed())
        except KeyboardInterrupt:
            return LEFT_TO_ITSELF
        except (OSError, RuntimeError, ClusterFailure) as error:
            raise ClusterFailure(
                f"lost sight of job {identity} ({error}); it may go on: repertory status"
            ) from error
        return self.exit_code(identity)

    def exit_code(self, identity: str) -> int:
        """Return how a job ended: its process's code; 143 if it was stopped; 1 if it never ran."""
        with self._asked(f"how job {identity} ended"):
            info = self._client.get_job_info(identity)
        status = str(info.status)
        if status == "SUCCEEDED":
            return 0
        if status == "STOPPED":
            return 143
        if status in _UNDER_WAY:
            raise ClusterFailure(f"lost sight of job {identity}, which goes on: repertory status")
        if info.driver_exit_code is None:
            log.error("%s", info.message)
            return 1
        code = int(info.driver_exit_code)
        return 128 - code if code < 0 else code

    def listed(self) -> list[Job]:
        """Return the jobs of the cluster's life, the newest last."""
        jobs = []
        with self._asked("for its jobs"):
            found = self._client.list_jobs()
        for info in found:
            if not info.submission_id:
                # A driver that joined by itself, such as `repertory train --address`.
                continue
            job = Job(
                info.submission_id,
                (info.metadata or {}).get("run", info.entrypoint),
                str(info.status),
                info.start_time,
                "",
            )
            jobs.append(job if job.ended else replace(job, last_line=self._last_line(job.identity)))
        return sorted(jobs, key=lambda job: job.started_ms or 0)

    def _last_line(self, identity: str) -> str:
        with self._asked(f"for the output of job {identity}"):
            said = self._client.get_job_logs(identity)
        lines = [line for line in said.splitlines() if line.strip()]
        return lines[-1].strip()[:120] if lines else ""

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive."""
        from ray.util.state import list_nodes

        with self._asked("for its nodes"):
            found = list_nodes(self._address, filters=[("state", "=", "ALIVE")], limit=_MOST)
        return [
            Node(
                node.node_id,
                node.node_ip,
                (node.labels or {}).get("role", "-"),
                (node.labels or {}).get("ray.io/market-type", "-"),
                dict(node.resources_total or {}),
            )
            for node in found
        ]

    def places(self) -> list[tuple[str, str]]:
        """Return the class and the node of every Ray actor that is alive."""
        from ray.util.state import list_actors

        alive = [("state", "=", "ALIVE")]
        with self._asked("for its actors"):
            found = list_actors(self._address, filters=alive, limit=_MOST, detail=True)
        return [
            (actor.class_name, actor.node_id)
            for actor in found
            if not actor.class_name.startswith("JobSupervisor")
        ]

    def log_lines(self, node_id: str, name: str, count: int) -> list[str]:
        """Return the last lines of a file in Ray's log folder on a node."""
        # Ray's own `get_log` takes no address of a dashboard, and a head's other ports are closed
        # to whoever comes through a tunnel.
        asked = {"node_id": node_id, "filename": name, "lines": count, "timeout": LOG_S}
        with self._asked(f"for {name}"):
            answer = self._client._do_request(
                "GET", "/api/v0/logs/file", params=asked, timeout=LOG_S + 5
            )
            if answer.status_code != 200:
                raise RuntimeError(answer.text)
            text: str = answer.content.decode("utf-8", errors="replace")
        return text.splitlines()
