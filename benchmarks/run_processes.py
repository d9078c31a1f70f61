"""The processes of a run on this machine by their part, and what CPU time and memory they take."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import psutil


class Processes:
    """The run's processes by their part; those of the measurement itself are left out."""

    def __init__(self, workers: Sequence[int]) -> None:
        own = psutil.Process()
        self._parts: dict[str, list[psutil.Process]] = {
            "driver": [own],
            "worker": [],
            "learner": [],
            "ray": [],
        }
        for process in own.children(recursive=True):
            title = " ".join(process.cmdline())
            if process.pid in workers:
                self._parts["worker"].append(process)
            elif title.startswith("ray::LearnerHost"):
                self._parts["learner"].append(process)
            elif not title.startswith("ray::Puller"):
                self._parts["ray"].append(process)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds of each part so far."""
        return {
            part: sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())
            for part, processes in self._parts.items()
        }

    def largest_pss(self) -> dict[str, int]:
        """Return the proportional memory of each part's largest process, in bytes."""
        return {
            part: max(process.memory_full_info().pss for process in processes)
            for part, processes in self._parts.items()
            if part in ("worker", "learner")
        }


def threads_here(_: Any) -> dict[str, int]:
    """Return this process's threads, as the system numbers them, by their names in Python.

    Asked of an async Ray actor (`__ray_call__`), whose event loop then is the thread that answers:
    it is called `event loop` here.
    """
    found = {thread.name: int(thread.native_id or 0) for thread in threading.enumerate()}
    return found | {"event loop": threading.get_native_id()}


def thread_seconds(process_id: int, threads: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds so far of each of these threads, to 10 ms; 0 for those that ended."""
    spent = {
        thread.id: thread.user_time + thread.system_time
        for thread in psutil.Process(process_id).threads()
    }
    return {name: spent.get(number, 0.0) for name, number in threads.items()}


def actors_of(kind: str) -> list[psutil.Process]:
    """Return the processes below this one that are Ray actors of a class."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        # Ray names an idle actor by its class and a busy one by class and method.
        if title.startswith("ray::") and kind in title:
            found.append(child)
    return found
