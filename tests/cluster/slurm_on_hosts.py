"""Enough of Slurm for one job on several hosts: steps run on the hosts, and all else is theirs.

A batch script runs on the first host, as under Slurm. From there it cannot reach into another one;
so its `srun` asks whoever made the hosts, who can, through a socket in the folder that all share.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from hosts import BIN, Host

JOB = "4711"
STEP = "SLURM_STEP_ID"
SCRIPT = Path(__file__).parents[2] / "deploy" / "launch" / "slurm.sbatch"

_SRUN = f"""#!{sys.executable}
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect(os.environ["STAGE"] + "/controller")
    step = {{"words": sys.argv[1:], "variables": dict(os.environ)}}
    link.sendall(json.dumps(step).encode() + b"\\n")
    ended = json.loads(link.makefile().readline())
sys.stdout.write(ended["said"])
sys.exit(ended["code"])
"""
_SCONTROL = """#!/bin/bash
case $1 in
  show) cat "$STAGE/names" ;;
  requeue) echo "$2" >>"$STAGE/requeued" ;;
esac
"""


class Slurm:
    """The controller of the hosts given, each of which has `cores` for a job."""

    def __init__(self, hosts: Sequence[Host], folder: Path, *, cores: int) -> None:
        self._hosts = list(hosts)
        self._folder = folder
        self._cores = cores
        self._steps = 0
        (folder / "names").write_text("".join(f"{host.name}\n" for host in hosts))
        for name, text in (("srun", _SRUN), ("scontrol", _SCONTROL)):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text)
            program.chmod(0o755)
        slurm = self

        class Step(socketserver.StreamRequestHandler):
            """One call of srun, from its words to its end."""

            def handle(self) -> None:
                asked = json.loads(self.rfile.readline())
                code, said = slurm._step(asked["words"], asked["variables"])
                self.wfile.write(json.dumps({"code": code, "said": said}).encode() + b"\n")

        self._server = socketserver.ThreadingUnixStreamServer(str(folder / "controller"), Step)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the job, for the first time or again, with nothing set that Slurm does not set."""
        variables = {
            "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self._folder),
            "TMPDIR": "/tmp",
            "STAGE": str(self._folder),
            "VENV": str(BIN.parent),
            "STORE_BYTES": "200000000",
            "RAY_worker_niceness": "0",
            "SLURM_SUBMIT_DIR": str(self._folder),
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": ",".join(host.name for host in self._hosts),
            "SLURM_JOB_NUM_NODES": str(len(self._hosts)),
            "SLURM_CPUS_PER_TASK": str(self._cores),
        }
        return _start(self._hosts[0], "job", variables, [str(SCRIPT), *words])

    def signal(self, job: subprocess.Popen[bytes]) -> None:
        """Signal the batch script and nothing else, as `--signal=B:TERM` has it."""
        self._hosts[0].terminate(job)

    def requeued(self) -> bool:
        """Whether the job has asked to be started again, since this was last asked."""
        file = self._folder / "requeued"
        asked = file.exists() and file.read_text() == f"{JOB}\n"
        file.unlink(missing_ok=True)
        return asked

    def _step(self, words: list[str], variables: dict[str, str]) -> tuple[int, str]:
        options = []
        while words[0].startswith("-"):
            options.append(words.pop(0))
        named = [one.partition("=")[2] for one in options if one.startswith("--nodelist=")]
        hosts = [host for host in self._hosts if not named or host.name in named]
        self._steps += 1
        name = f"step{self._steps}"
        own = {STEP: f"{self._hosts[0].name}.{name}"}
        tasks = [
            _start(host, name, variables | own | {"SLURM_NODEID": str(number)}, words)
            for number, host in enumerate(hosts)
        ]
        bad = "--kill-on-bad-exit=1" in options
        while any(task.poll() is None for task in tasks):
            if bad and any(task.returncode for task in tasks):
                _kill_step(own[STEP])
            time.sleep(0.2)
        said = "".join(host.output(name).read_text() for host in hosts)
        return max(task.returncode for task in tasks), said

    def close(self) -> None:
        """Take no more steps."""
        self._server.shutdown()
        self._server.server_close()


def _kill_step(step: str) -> None:
    """Kill whatever is a step's, wherever it has got to, as Slurm does by its control groups."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(STEP) == step:
                # Ray's processes write their names over their variables, but have parents.
                found |= {process, *process.children(recursive=True)}
        except psutil.Error:
            continue
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(list(found), timeout=10)


def _start(
    host: Host, name: str, variables: dict[str, str], words: Sequence[str]
) -> subprocess.Popen[bytes]:
    given = [f"{key}={value}" for key, value in variables.items()]
    return host.start(name, "-i", *given, *words)
