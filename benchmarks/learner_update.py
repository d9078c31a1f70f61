"""CPU microseconds per agent step of one learner update, for each network, format and compiler.

`repertory bench learner_update` prints a table; `measure()` returns one of its rows. Time is
CPU time of the process with one torch thread, stack rebuilding included. Variants take turns, so
that a busy machine disturbs them alike; the least and the median over the rounds are given.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import tyro

from learner.vtrace import VTraceLearner
from repertory.config import LearnerConfig, NetworkConfig, RunConfig
from repertory.networks.actor_critic import build_network
from repertory.networks.precision import has_fast_bf16
from repertory.types import ActionSpec, ObservationSpec, TaskSpec, Unroll

Torso = Literal["shallow", "nature", "impala"]
Format = Literal["fp32", "bf16"]
Layout = Literal["channels_last", "contiguous"]
Compile = Literal["off", "on"]
STEPS, COLUMNS, TASKS = 20, 32, 4


@dataclass(frozen=True)
class Options:
    """What to measure: every combination."""

    torso: tuple[Torso, ...] = ("shallow", "nature", "impala")
    precision: tuple[Format, ...] = ("fp32", "bf16")
    memory_format: tuple[Layout, ...] = ("channels_last",)
    compile: tuple[Compile, ...] = ("off", "on")
    rounds: int = 10
    """Updates of each that are timed."""


@dataclass(frozen=True)
class Measurement:
    """Microseconds of CPU per agent step over some rounds of one update each."""

    torso: str
    precision: str
    memory_format: str
    compile: str
    least: float
    median: float
    first_s: float
    """Wall seconds of the first update, compilation included."""


def synthetic_batch(seed: int = 0) -> tuple[list[TaskSpec], Unroll]:
    """Return four tasks of 18 actions and a batch of 32 unrolls of 20 steps with random frames."""
    random = np.random.default_rng(seed)
    spec = ObservationSpec((84, 84), "uint8", 4)
    tasks = [
        TaskSpec(index, f"task{index}", spec, ActionSpec("discrete", 18), 0.99)
        for index in range(TASKS)
    ]
    task = (np.arange(COLUMNS) % TASKS).astype(np.int32)
    grid = (STEPS, COLUMNS)
    return tasks, Unroll(
        worker=0,
        incarnation=0,
        sequence=0,
        task=task,
        policy_version=np.zeros(COLUMNS, np.int64),
        observation=random.integers(0, 256, (3 + STEPS + 1, COLUMNS, 84, 84), dtype=np.uint8),
        age=np.minimum(np.arange(STEPS + 1)[:, None] + random.integers(0, 9, COLUMNS), 255).astype(
            np.uint8
        ),
        action=random.integers(0, 18, grid),
        reward=random.integers(-1, 2, grid).astype(np.float32),
        terminated=random.random(grid) < 0.01,
        truncated=np.zeros(grid, bool),
        valid=random.random(grid) > 0.01,
        behaviour_log_probability=np.full(grid, -np.log(18), np.float32),
        guide=np.tile(task, (STEPS, 1)),
        decision=np.zeros(grid, bool),
        recurrent=np.zeros((COLUMNS, 0), np.float32),
    )


class Variant:
    """One learner to be timed."""

    def __init__(
        self, torso: Torso, precision: Format, memory_format: Layout, compile: Compile
    ) -> None:
        self.names = (torso, precision, memory_format, compile)
        tasks, self._batch = synthetic_batch()
        network = NetworkConfig(torso=torso, hidden=512 if torso == "nature" else 256)
        learner = LearnerConfig(
            device="cpu", precision=precision, memory_format=memory_format, compile=compile
        )
        config = RunConfig(network=network, learner=learner)
        self._learner = VTraceLearner(build_network(tasks, network, 1), config, tasks)
        self._rounds: list[float] = []
        start = time.perf_counter()
        self._learner.update(self._batch, 0.0)
        self._first_s = time.perf_counter() - start

    def round(self) -> None:
        """Time one update."""
        start = time.process_time()
        self._learner.update(self._batch, 0.0)
        self._rounds.append((time.process_time() - start) / (STEPS * COLUMNS) * 1e6)

    def result(self) -> Measurement:
        """Return what was timed so far."""
        least, median = min(self._rounds), statistics.median(self._rounds)
        return Measurement(*self.names, least, median, self._first_s)


def measure(
    torso: Torso = "shallow",
    precision: Format | None = None,
    compile: Compile = "off",
    rounds: int = 10,
) -> Measurement:
    """Time one variant on one thread; without a precision, the one that this machine prefers."""
    torch.set_num_threads(1)
    preferred: Format = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    variant = Variant(torso, precision or preferred, "channels_last", compile)
    for _ in range(rounds):
        variant.round()
    return variant.result()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = tyro.cli(Options, args=argv, prog="repertory bench learner_update")
    torch.set_num_threads(1)
    print(
        "torso    format  layout         compiled  least us/step  median us/step  first update s",
        flush=True,
    )
    for torso in given.torso:
        variants = [
            Variant(torso, *formats)
            for formats in itertools.product(given.precision, given.memory_format, given.compile)
        ]
        for _ in range(given.rounds):
            for variant in variants:
                variant.round()
        for one in (variant.result() for variant in variants):
            print(
                f"{one.torso:8} {one.precision:7} {one.memory_format:14} {one.compile:9} "
                f"{one.least:13.0f} "
                f"{one.median:15.0f} {one.first_s:15.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
