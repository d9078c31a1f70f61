"""A study's jobs on a Ray cluster's nodes, each a process beside an actor that holds its cores.

Every job is told the study's directory by one path, which must lead to it on all nodes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ray

from deploy.cluster.faults import ANSWER_S, first_line
from deploy.cluster.ray_session import join
from deploy.study.needs import GIB, Needs
from deploy.study.places import START, Ended, Process
from repertory.errors import ClusterFailure

log = logging.getLogger(__name__)

_MARK = "SHARED"
_SEEN_WITHIN_S = 20.0
"""A network's file system may show a new file to other nodes late."""
_LOOK_S = 2.0
# A job whose actor dies ends at once, or it would go on beside the one that is begun in its place,
# and hold the run's lock: checkpoints are whole whenever that is.
_START_BELOW = f"""
import ctypes, os, signal
above = os.getppid()
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != above:
    raise SystemExit(1)
{START}
"""


class JobHost:
    """Ray actor that runs one job on its node. `run` keeps a thread, the others have their own."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def node(self) -> str:
        """Return the address of its node: the job has a place."""
        return str(ray.util.get_node_ip_address())

    def run(self, words: Sequence[str], log_file: str, mark: str) -> tuple[int, str]:
        """Run `repertory` with these words; return its exit code and what its log does not say."""
        folder = Path(log_file).parent
        if not _sees(folder, mark):
            return 2, (
                f"{folder.parent} is not the study's directory on the node {self.node()}: it must "
                "lie on a file system that all nodes see, under the same path"
            )
        # Ray's variables are of this cluster and this actor; a run that starts Ray starts its own.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with Path(log_file).open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START_BELOW, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**kept, "OMP_NUM_THREADS": "1"},
            )
        if self._stopping:
            self._process.terminate()
        return self._process.wait(), ""

    def stop(self) -> None:
        """Ask the job to stop with a checkpoint."""
        self._stopping = True
        if self._process is not None:
            self._process.terminate()


def _sees(folder: Path, mark: str) -> bool:
    """Whether a folder of this node is the one that the study's process put its mark into."""
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            if (folder / _MARK).read_text(encoding="utf-8") == mark:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)


class ClusterPlaces:
    """As many jobs as the nodes have room for, or so many as are asked for.

    What is asked for beyond the nodes' room waits in the cluster, where an autoscaler sees it.
    """

    def __init__(self, needs: Needs, count: int | None, logs: Path) -> None:
        """Look at the nodes there are.

        Raises:
            ClusterFailure: no node has what a job needs, and no number of jobs was given that
                could wait for one.
        """
        self._needs, self._count = needs, count
        self._room, self._looked = 0, -_LOOK_S
        self._mark = secrets.token_hex(16)
        gpus = ray.cluster_resources().get("GPU", 0)
        self._gpus = int(needs.device == "cuda" or (needs.device == "auto" and gpus >= 1))
        if count is None and not self.fitting():
            largest = max((int(node.get("CPU", 0)) for node in _nodes()), default=0)
            raise ClusterFailure(
                f"no node has room for a job, which takes {self._taken}; the largest has "
                f"{largest} cores: add nodes, lower the settings, or give --jobs for an autoscaler "
                "to see"
            )
        logs.mkdir(parents=True, exist_ok=True)
        (logs / _MARK).write_text(self._mark, encoding="utf-8")

    def __str__(self) -> str:
        """Say how many jobs run at once, and what each takes."""
        count = self.room()
        jobs = f"{count} job{'s' if count != 1 else ''} at once on the cluster's nodes"
        return f"{jobs}: {self._taken} each"

    @property
    def _taken(self) -> str:
        gpu = " and a GPU" if self._gpus else ""
        cores = f"{self._needs.cores} core{'s' if self._needs.cores > 1 else ''}"
        return f"{cores}, {self._needs.memory / GIB:.1f} GiB{gpu}"

    def fitting(self) -> int:
        """Return how many jobs would fit on all nodes, were they free."""
        return sum(self._on(node) for node in _nodes())

    def room(self) -> int:
        """Return how many jobs may run at once; nodes come and go."""
        if self._count is not None:
            return self._count
        now = time.monotonic()
        if now - self._looked >= _LOOK_S:
            self._room, self._looked = self.fitting(), now
        return self._room

    def _on(self, node: Mapping[str, float]) -> int:
        wanted = {"CPU": self._needs.cores, "memory": self._needs.memory, "GPU": self._gpus}
        return min(int(node.get(name, 0) // each) for name, each in wanted.items() if each)

    def start(self, words: Sequence[str], log: Path) -> Process:
        """Give a job to the cluster; what it says is appended to `log`."""
        host = ray.remote(JobHost).options(
            num_cpus=self._needs.cores,
            num_gpus=self._gpus,
            memory=self._needs.memory,
            max_restarts=0,
            max_concurrency=4,
        )
        return _ClusterProcess(host.remote(), words, log, self._mark)


class _ClusterProcess:
    def __init__(self, host: ray.actor.ActorHandle, words: Sequence[str], log: Path, mark: str):
        self._host = host
        self._placed = host.node.remote()
        self._answer = host.run.remote(list(words), str(log), mark)
        self._stopping = False

    def ended(self) -> Ended | None:
        if not _is_there(self._answer):
            return None
        try:
            code, said = ray.get(self._answer, timeout=ANSWER_S)
        except ray.exceptions.RayTaskError as error:
            return Ended(1, f"{type(error.cause).__name__}: {error.cause}")
        except ray.exceptions.RayError as error:
            if self._stopping:
                return Ended(-signal.SIGTERM)
            return Ended(1, first_line(error), lost=True)
        return Ended(code, said)

    def stop(self) -> None:
        self._stopping = True
        if _is_there(self._placed):
            self._host.stop.remote()
        else:
            # It still waits for room, and no checkpoint is to be awaited.
            self.kill()

    def kill(self) -> None:
        self._stopping = True
        ray.kill(self._host, no_restart=True)


def _is_there(answer: ray.ObjectRef) -> bool:
    return bool(ray.wait([answer], timeout=0)[0])


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def cluster_places(
    address: str, needs: Needs, count: int | None, directory: Path
) -> Iterator[ClusterPlaces]:
    """Be connected to a cluster while entered. Raises ClusterFailure where nothing answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    join(address)
    try:
        yield ClusterPlaces(needs, count, directory / "logs")
    finally:
        ray.shutdown()
