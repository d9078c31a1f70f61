"""Processes that outlive a killed driver: Ray's helpers of a cluster that a run had started.

A driver puts its own identity into its environment before it starts a cluster, and every process
of that cluster inherits it. Whoever carries the identity of a process that is no more is left over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path

import psutil

DRIVER = "REPERTORY_DRIVER"
"""Process id, time of its start and namespace of the driver, with a colon between."""
END_S = 5.0
_SAME_START_S = 2.0
"""Starts are told in hundredths of a second since a boot whose time may be set meanwhile."""


def mark(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let the processes that this one starts from now on carry its identity."""
    me = psutil.Process()
    environment[DRIVER] = f"{me.pid}:{me.create_time():.2f}:{_namespace()}"


def left_over() -> list[psutil.Process]:
    """Return the processes whose driver is gone, of those whose environment we may read."""
    return list(_left_over())


def end(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Ask processes to end, kill those that do not within seconds, and return what still lives."""
    asked = list(processes)
    for process in asked:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(asked, timeout=END_S)
    for process in alive:
        _signal(process, kill=True)
    return list(psutil.wait_procs(alive, timeout=END_S)[1])


def named(process: psutil.Process) -> str:
    """Return what a process calls itself, and its id."""
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        words = []
    # Ray's helpers call themselves ray-dashboard-DashboardAgent-0 and the like, and pad it.
    title = Path(words[0].strip().split(" ")[0]).name if words else "a process"
    return f"{title} {process.pid}"


def _left_over() -> Iterator[psutil.Process]:
    here = _namespace()
    for process in psutil.process_iter():
        try:
            carried = process.environ().get(DRIVER, "")
            zombie = process.status() == psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
        driver, _, rest = carried.partition(":")
        began, _, namespace = rest.partition(":")
        # Numbers of another container's processes mean other ones here.
        if zombie or namespace != here or process.pid == os.getpid():
            continue
        if not _lives(int(driver), float(began)):
            yield process


def _lives(pid: int, began: float) -> bool:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - began) < _SAME_START_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        pass


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid").replace(":", "")
