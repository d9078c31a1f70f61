"""Atari end to end: what lanes, inference and updates cost alone, and what training makes of it.

One run prints CPU microseconds per agent step of each part measured by itself, the training rate of
the Ray runtime, and the efficiency: that rate over what the cores could do at those costs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from actors.stacking import RollingStack
from benchmarks import atari_lanes
from benchmarks.end_to_end import EndToEnd, end_to_end
from deploy import build
from envs.registry import make_lanes
from repertory.config import (
    ActorConfig,
    AtariConfig,
    CheckpointConfig,
    EvaluationConfig,
    LearnerConfig,
    LoggingConfig,
    NetworkConfig,
    RunConfig,
)
from repertory.seeding import stream
from repertory.types import Unroll


@dataclass(frozen=True)
class Options:
    """What to measure."""

    torso: str = "shallow"
    """shallow, nature or impala."""
    tasks: tuple[str, ...] = (
        "atari/breakout/m0d0",
        "atari/breakout/m4d0",
        "atari/breakout/m16d0",
        "atari/breakout/m20d0",
    )
    workers: int = 2
    lanes: int = 32
    groups: int = 1
    batch_size: int = 32
    precision: str = "auto"
    compile: str = "auto"
    seconds: float = 30.0
    """Length of the end-to-end measurement, after warm-up."""
    windows: int = 5
    """Repeats of each measurement of a part; medians are printed."""


@dataclass(frozen=True)
class Costs:
    """CPU microseconds per agent step of each part alone (medians)."""

    lanes: float
    inference: float
    update: float

    @property
    def total(self) -> float:
        """One agent step from emulation to learning."""
        return self.lanes + self.inference + self.update


def config_of(options: Options) -> RunConfig:
    """Return the run that is measured."""
    return RunConfig.model_validate(
        {
            "recipe": "bench-atari",
            "tasks": options.tasks,
            "total_steps": 10**12,
            "environment": AtariConfig(),
            "network": NetworkConfig.model_validate(
                {
                    "torso": options.torso,
                    "hidden": 512 if options.torso == "nature" else 256,
                }
            ),
            "actors": ActorConfig.model_validate(
                {
                    "count": options.workers,
                    "lanes": options.lanes,
                    "groups": options.groups,
                    "precision": options.precision,
                }
            ),
            "learner": LearnerConfig.model_validate(
                {
                    "batch_size": options.batch_size,
                    "precision": options.precision,
                    "compile": options.compile,
                }
            ),
            "logging": LoggingConfig(wandb="disabled"),
            "checkpoint": CheckpointConfig(every_s=1e9),
            "evaluation": EvaluationConfig(at_end=False),
        }
    )


def cpu_microseconds(call: Callable[[], object], steps: int, windows: int) -> float:
    """Return the median over windows of process CPU time per step; each window lasts about 1 s."""
    call()
    results = []
    for _ in range(windows):
        began, count = time.process_time(), 0
        while (spent := time.process_time() - began) < 1.0:
            call()
            count += 1
        results.append(1e6 * spent / (count * steps))
    return median(results)


def costs_alone(config: RunConfig, windows: int) -> Costs:
    """Measure lanes, inference and update one after another in this process, on one thread."""
    torch.set_num_threads(1)
    tasks = build.tasks_of(config)
    lane_count = config.actors.lanes
    assignment = build.assignment(config, len(tasks), 0)
    lanes = make_lanes(config.environment, tasks, assignment, seed=1, path=("bench",))
    generator = stream(1, "bench")
    stack = RollingStack(tasks[0].observation, lane_count)
    stack.push(lanes.reset(), np.ones(lane_count, np.bool_))

    def step() -> None:
        lanes.step(generator.integers(0, tasks[0].action.size, lane_count))

    lanes_us = cpu_microseconds(step, lane_count, windows)

    policy = build.acting_policy(config, tasks, generator)
    started = np.zeros(lane_count, np.bool_)
    recurrent = np.zeros((lane_count, policy.recurrent_size), np.float32)

    def infer() -> None:
        stack.push(lanes_observation, started)
        policy.act(stack.network_input, lanes.task, recurrent, started)

    lanes_observation = lanes.step(np.zeros(lane_count, np.int64)).observation
    inference_us = cpu_microseconds(infer, lane_count, windows)
    lanes.close()

    update_us = update_alone(config, windows)
    return Costs(lanes_us, inference_us, update_us)


def update_alone(config: RunConfig, windows: int) -> float:
    """Measure updates on real unrolls, batches put together as in training."""
    from deploy.local import LatestWeights

    tasks = build.tasks_of(config)
    learner = build.learner(config, tasks)
    weights = LatestWeights()
    weights.publish(learner.weights())
    worker = build.rollout_worker(config, tasks, weights, worker=0, incarnation=0)
    queues = build.trajectory_queues(config, tasks)
    batch: Unroll | None = None
    while batch is None:
        queues.insert(worker.iterate())
        batch = queues.next_batch(0.0)
    worker.close()
    ready = batch
    for _ in range(3):
        learner.update(ready, 0.0)
    steps = config.learner.batch_size * config.learner.unroll_length
    return cpu_microseconds(lambda: learner.update(ready, 0.0), steps, windows)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def costs_on_every_core(config: RunConfig, windows: int) -> Costs:
    """Measure the parts in one process per core at once: cores share caches and memory."""
    cores = _cores()
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        found = list(pool.map(costs_alone, [config] * cores, [windows] * cores))
    return Costs(
        lanes=median(c.lanes for c in found),
        inference=median(c.inference for c in found),
        update=median(c.update for c in found),
    )


def measure(options: Options) -> tuple[Costs, Costs, EndToEnd]:
    """Measure parts alone, parts on every core at once, then the whole."""
    config = config_of(options)
    return (
        costs_alone(config, options.windows),
        costs_on_every_core(config, options.windows),
        end_to_end(config, options.seconds),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = tyro.cli(Options, args=argv, prog="repertory bench atari")
    alone, together, whole = measure(options)
    game = options.tasks[0].split("/")[1]
    native = atari_lanes.measure(game, lanes=options.lanes)
    cores = _cores()
    ideal, shared = (1e6 / costs.total for costs in (alone, together))
    table = Table(title=f"Atari, {options.torso}, {options.workers} workers x {options.lanes}")
    table.add_column("measured")
    table.add_column("alone", justify="right")
    table.add_column(f"on {cores} cores at once", justify="right")
    for name, one, other in (
        ("lanes, CPU us per agent step", alone.lanes, together.lanes),
        ("inference (stacking included)", alone.inference, together.inference),
        ("update (stack rebuilding included)", alone.update, together.update),
        (f"ideal on {cores} cores, agent steps/s", cores * ideal, cores * shared),
    ):
        table.add_row(name, f"{one:,.0f}", f"{other:,.0f}")
    table.add_section()
    table.add_row(
        "efficiency: end-to-end rate over ideal",
        f"{whole.steps_per_s / cores / ideal:.2f}",
        f"{whole.steps_per_s / cores / shared:.2f}",
    )
    for name, value in (
        ("end to end, agent steps/s", f"{whole.steps_per_s:,.0f}"),
        ("end to end, agent steps per CPU second", f"{whole.steps_per_cpu_s:,.0f}"),
        ("cores busy", f"{whole.cores_busy:.2f}"),
        (f"lane against ale-py's native vector environment, {game}", f"{native.ratio:.2f}"),
        ("policy lag, mean versions", f"{whole.lag:.1f}"),
        ("largest worker, PSS in MiB, at first", f"{whole.pss_mib[0]:.0f}"),
        ("largest worker, PSS in MiB, at last", f"{whole.pss_mib[1]:.0f}"),
        ("largest worker, RSS in MiB, at last", f"{whole.rss_mib:.0f}"),
    ):
        table.add_row(name, value, "")
    Console().print(table)


if __name__ == "__main__":
    main()
