"""Memory and open files of a run's processes through their lives, and how they grow."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import psutil

PARTS = {"LearnerHost": "learner", "ReplayHost": "replay", "WorkerHost": "worker"}
LONG_S = 120.0
"""Of a shorter life nothing is said: it is all beginning."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How a process grew over the second half of its life, by least squares."""

    part: str
    lived_s: float
    megabytes_per_minute: float
    """Of memory that it shares with nobody: pages of the object store are not its own."""
    files_per_minute: float

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.part}, {self.lived_s:.0f} s: {self.megabytes_per_minute:+.2f} MiB and "
            f"{self.files_per_minute:+.1f} open files a minute"
        )


class ProcessLives:
    """The driver, which is this process, and the Ray actors below it."""

    def __init__(self) -> None:
        self._driver = psutil.Process()
        self._samples: dict[tuple[str, int], list[tuple[float, float, int]]] = {}

    def sample(self) -> None:
        """Look at all that live."""
        self._note("driver", self._driver)
        for child in self._driver.children(recursive=True):
            try:
                title = " ".join(child.cmdline())
                for name, part in PARTS.items():
                    # Ray names an idle actor by its class and a busy one by class and method.
                    if title.startswith("ray::") and name in title:
                        self._note(part, child)
            except psutil.NoSuchProcess:
                continue

    def _note(self, part: str, process: psutil.Process) -> None:
        memory = process.memory_info()
        sample = time.monotonic(), (memory.rss - memory.shared) / 2**20, process.num_fds()
        self._samples.setdefault((part, process.pid), []).append(sample)

    def growths(self) -> list[Growth]:
        """Return those of all lives of `LONG_S` or more, the fastest growing of each part first."""
        found = [
            growth_of(part, samples)
            for (part, _), samples in self._samples.items()
            if samples[-1][0] - samples[0][0] >= LONG_S
        ]
        return sorted(found, key=lambda growth: (growth.part, -growth.megabytes_per_minute))


def growth_of(part: str, samples: list[tuple[float, float, int]]) -> Growth:
    """Return the growth of one process from (second, MiB, open files), at least four of them."""
    half = np.asarray(samples[len(samples) // 2 :], dtype=np.float64)
    minutes = (half[:, 0] - half[0, 0]) / 60.0
    slopes = np.polyfit(minutes, half[:, 1:], 1)[0]
    return Growth(part, samples[-1][0] - samples[0][0], float(slopes[0]), float(slopes[1]))
