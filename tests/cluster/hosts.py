"""Hosts on one machine: each a network namespace with processes, shared memory and name of its own,
all on one bridge that no other network is joined to.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
PORT = 6379
# As in the launch files: a node that is gone is missed after seconds, not a minute.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
# Ray lets the processes of a run give way to all others, of which a shared machine may have many.
NICENESS = {"RAY_worker_niceness": "0"}
# First process of a host: names it, gives it memory and a folder for Ray of its own, and waits.
_FIRST = """
hostname "$1" && mount -t tmpfs -o size=1g tmpfs /dev/shm || exit 1
mkdir -p /tmp/ray && mount -t tmpfs -o size=1g tmpfs /tmp/ray || exit 1
echo ready
while true; do sleep 1000; done
"""
# What keeps a node in its cluster, as restart policies do: Ray ends a node that was given up.
_AGAIN = 'while true; do "$@"; sleep 1; done'


def why_not() -> str | None:
    """Return why there can be no hosts on this machine, or None."""
    name = f"rep-{secrets.token_hex(3)}"
    try:
        made = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "ip", "netns", "add", name],
            capture_output=True,
            text=True,
        )
    except OSError as error:
        return f"network namespaces need ip and unshare: {error.strerror} ({error.filename})"
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return made.stderr.strip() or "namespaces cannot be made" if made.returncode else None


def wait_for(what: str, condition: Callable[[], object], deadline_s: float) -> float:
    """Wait until `condition` holds and return the seconds that took; fail with `what`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > deadline_s:
            raise AssertionError(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.5)
    return time.monotonic() - began


class Host:
    """One host; it lives until it is killed."""

    def __init__(self, tag: str, number: int, folder: Path, environment: dict[str, str]) -> None:
        self.address = f"10.77.0.{10 + number}"
        self.name = f"{tag}h{number}"
        self._link = f"{tag}v{number}"
        self._folder = folder
        self._environment = environment
        self._started: list[subprocess.Popen[bytes]] = []
        inside = ["ip", "-n", self.name]
        _do("ip", "netns", "add", self.name)
        _do(
            *["ip", "link", "add", self._link, "type", "veth"],
            *["peer", "name", "eth0", "netns", self.name],
        )
        _do("ip", "link", "set", self._link, "master", f"{tag}b", "up")
        _do(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _do(*inside, "link", "set", "eth0", "up")
        _do(*inside, "link", "set", "lo", "up")
        self._outer = subprocess.Popen(
            [
                *["ip", "netns", "exec", self.name],
                *["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--mount-proc"],
                *["--kill-child", "bash", "-c", _FIRST, "first", self.name],
            ],
            stdout=subprocess.PIPE,
        )
        assert self._outer.stdout is not None
        assert self._outer.stdout.readline() == b"ready\n"
        self._first = psutil.Process(self._outer.pid).children()[0].pid

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Run a command on this host; what it prints goes to a file of its name."""
        with self.output(name).open("ab") as output:
            process = subprocess.Popen(
                [
                    *["nsenter", "-t", str(self._first), "-m", "-u", "-i", "-n", "-p"],
                    *["env", f"--chdir={self._folder}", *command],
                ],
                env=self._environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        self._started.append(process)
        return process

    @staticmethod
    def terminate(process: subprocess.Popen[bytes]) -> None:
        """Send SIGTERM to what `start` runs, which is the child of what leads into the host."""
        psutil.Process(process.pid).children()[0].terminate()

    def output(self, name: str) -> Path:
        """Return the file of what a command printed."""
        return self._folder / f"{self.name}-{name}.log"

    def ray(self, *options: str) -> None:
        """Start a Ray node here, and again whenever it ends."""
        ray = [str(BIN / "ray"), "start", f"--node-ip-address={self.address}", "--block"]
        ray += ["--object-store-memory=200000000", "--disable-usage-stats", *options]
        self.start("ray", "bash", "-c", _AGAIN, "again", *ray)

    def link(self, *, up: bool) -> None:
        """Cut this host off without a word, or join it again."""
        _do("ip", "link", "set", self._link, "up" if up else "down")

    def processes(self) -> list[str]:
        """Return the command lines of all that runs here, but for what keeps the host up."""
        space = Path(f"/proc/{self._first}/ns/pid").readlink()
        found = []
        for process in psutil.process_iter():
            try:
                here = Path(f"/proc/{process.pid}/ns/pid").readlink() == space
                if here and process.pid != self._first and process.name() != "sleep":
                    found.append(" ".join(process.cmdline()))
            except (OSError, psutil.NoSuchProcess):
                continue
        return found

    def kill(self) -> None:
        """Kill every process of this host at once: the first one takes all others with it."""
        if self._outer.poll() is None:
            os.kill(self._first, signal.SIGKILL)
            self._outer.wait(timeout=60)
        for process in self._started:
            process.wait(timeout=60)
        assert self._outer.stdout is not None
        self._outer.stdout.close()

    def remove(self) -> None:
        """Kill everything and take the network away."""
        self.kill()
        subprocess.run(["ip", "link", "del", self._link], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


class Network:
    """Hosts by number, and the bridge between them; 0 is the head of a cluster with a token."""

    def __init__(self, folder: Path) -> None:
        self._tag = f"r{secrets.token_hex(3)}"
        self._folder = folder
        self._hosts: dict[int, Host] = {}
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self._environment = kept | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "TMPDIR": "/tmp",
            **HEALTH,
            **NICENESS,
        }
        _do("ip", "link", "add", f"{self._tag}b", "type", "bridge")
        _do("ip", "link", "set", f"{self._tag}b", "up")

    def head(self, cores: int) -> Host:
        """Start the head and wait until it answers."""
        host = self.add(0)
        host.ray("--head", f"--port={PORT}", "--include-dashboard=false", f"--num-cpus={cores}")
        _wait_for_node(host)
        healthy = [str(BIN / "ray"), "health-check", f"--address={host.address}:{PORT}"]
        wait_for(
            "the head of the cluster answers",
            lambda: host.start("health", *healthy).wait(timeout=60) == 0,
            120,
        )
        return host

    def join(self, number: int, cores: int) -> Host:
        """Start another host that joins the head's cluster."""
        host = self.add(number)
        host.ray(f"--address={self._hosts[0].address}:{PORT}", f"--num-cpus={cores}")
        _wait_for_node(host)
        return host

    def add(self, number: int) -> Host:
        """Add a host on which nothing runs."""
        host = Host(self._tag, number, self._folder, self._environment)
        self._hosts[number] = host
        return host

    def close(self) -> None:
        """Leave nothing behind."""
        for host in self._hosts.values():
            host.remove()
        subprocess.run(["ip", "link", "del", f"{self._tag}b"], capture_output=True)


def _wait_for_node(host: Host) -> None:
    # A head that is too slow for Ray ends and starts again, as another cluster.
    started = "runtime started"
    wait_for("its node has started", lambda: started in host.output("ray").read_text(), 240)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
