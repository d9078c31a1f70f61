"""Chaos: a small run on Ray whose parts are killed and frozen at random while its books are kept.

Workers, the learner and the replay's process are killed, workers are frozen, and environments fail,
at times drawn from a seed. In the last quarter nothing is broken any more. Then the books must be
right: every step of every task counted once, every episode whole, and the run further than ever.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import psutil
import tyro

from benchmarks.run_processes import actors_of
from repertory.config import (
    ActorConfig,
    CheckpointConfig,
    CountingConfig,
    EvaluationConfig,
    LearnerConfig,
    LoggingConfig,
    NetworkConfig,
    OptimiserConfig,
    ReplayConfig,
    RunConfig,
    SacConfig,
)
from repertory.metrics.jsonl import read_rows
from repertory.run_directory import RunDirectory
from repertory.seeding import stream

Fault = Literal[
    "worker killed", "worker frozen", "all workers killed", "replay killed", "learner killed"
]
WEIGHTS = (0.4, 0.2, 0.1, 0.15, 0.15)
TASKS = 3
EPISODE = 7


@dataclass(frozen=True)
class Options:
    """How long, and which chaos."""

    minutes: float = 10.0
    seed: int = 1
    every_s: float = 12.0
    """Mean time between two faults."""


@dataclass
class Story:
    """What was done to the run and what it cost."""

    faults: Counter[str] = field(default_factory=Counter)
    megabytes: list[float] = field(default_factory=list)
    """Of the driver, each second."""
    files: list[int] = field(default_factory=list)


def config_of(options: Options) -> RunConfig:
    """Return the run: three counting tasks by SAC, the replay in a process of its own."""
    return RunConfig(
        recipe="chaos",
        seed=options.seed,
        tasks=tuple(f"counting/{task}" for task in range(TASKS)),
        total_steps=10**9,
        environment=CountingConfig(
            continuous=True,
            actions=2,
            episode_length=EPISODE,
            step_seconds=1e-4,
            fail_task="counting/1",
            fail_step=500,
            fail_times=2,
        ),
        network=NetworkConfig(torso="mlp", hidden=16, layers=1, conditioning="one_hot"),
        algorithm=SacConfig(exploration_steps=20, exploration="policy"),
        optimiser=OptimiserConfig(kind="adam", learning_rate=1e-3, anneal="none", epsilon=1e-8),
        learner=LearnerConfig(batch_size=12, unroll_length=5, precision="fp32", max_restarts=1000),
        actors=ActorConfig(count=2, lanes=6, precision="fp32", timeout_s=5.0, max_restarts=100_000),
        replay=ReplayConfig(capacity=6000, samples_per_insert=0.5, slack=2.0, place="process"),
        checkpoint=CheckpointConfig(every_s=4.0),
        evaluation=EvaluationConfig(at_end=False),
        logging=LoggingConfig(wandb="disabled", every_s=1.0),
    )


def strike(fault: Fault, random: np.random.Generator) -> bool:
    """Break something, and return whether there was something to break."""
    kind = {"replay killed": "ReplayHost", "learner killed": "LearnerHost"}.get(fault, "WorkerHost")
    victims = actors_of(kind)
    if not victims:
        return False
    chosen = victims if fault == "all workers killed" else [victims[random.integers(len(victims))]]
    for victim in chosen:
        try:
            if fault == "worker frozen":
                victim.suspend()
            else:
                victim.kill()
        except psutil.NoSuchProcess:
            continue
    return True


def torment(options: Options, story: Story, over: threading.Event) -> None:
    """Break things until three quarters of the time are over, and end the run at its end."""
    random = stream(options.seed, "chaos")
    me = psutil.Process()
    begun = time.monotonic()
    end = begun + 60.0 * options.minutes
    calm = end - 15.0 * options.minutes
    # Starting the cluster and the first checkpoint come before the first fault.
    due = begun + 15.0
    while time.monotonic() < end and not over.wait(1.0):
        story.megabytes.append(me.memory_info().rss / 2**20)
        story.files.append(me.num_fds())
        now = time.monotonic()
        if due <= now < calm:
            fault: Fault = get_args(Fault)[random.choice(len(WEIGHTS), p=WEIGHTS)]
            if strike(fault, random):
                story.faults[fault] += 1
            due = now + random.exponential(options.every_s)
    if not over.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def faults_in_the_books(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the records of the run, in sentences."""
    wrong = []
    last = rows[-1]
    counted = sum(last.get(f"task/counting/{task}/steps", 0) for task in range(TASKS))
    if counted != last["env_steps"]:
        wrong.append(f"the tasks' steps add up to {counted:.0f}, the run's are {last['env_steps']}")
    for row in rows:
        for task in range(TASKS):
            length = EPISODE + task
            found = row.get(f"task/counting/{task}/return", length * (length - 1) / 2)
            if found != length * (length - 1) / 2:
                wrong.append(f"an episode of counting/{task} was not whole: mean return {found}")
    if last.get("learner/nonfinite_updates", 0):
        wrong.append("updates were not finite")
    if last["env_steps"] < max(row["env_steps"] for row in rows[: len(rows) // 2]):
        wrong.append("the run ended behind where it had been at half time")
    return wrong


def slope(values: Sequence[float]) -> float:
    """Return the growth per minute of one value a second, over the second half."""
    half = np.asarray(values[len(values) // 2 :], dtype=np.float64)
    return float(np.polyfit(np.arange(len(half)) / 60.0, half, 1)[0]) if len(half) > 2 else 0.0


def main(arguments: Sequence[str]) -> int:
    """Torment a run and print what came of it; 1 if its books are wrong."""
    options = tyro.cli(Options, args=arguments)
    # Slow to import, and not needed to say which options there are.
    from deploy import cluster

    story, over = Story(), threading.Event()
    config = config_of(options)
    with tempfile.TemporaryDirectory(prefix="repertory-chaos-") as folder:
        run = RunDirectory.create(Path(folder), config.recipe, "chaos")
        run.write_config(config, {})
        thread = threading.Thread(target=torment, args=(options, story, over), daemon=True)
        thread.start()
        try:
            code = cluster.train(config, run, False)
        finally:
            over.set()
            thread.join()
        rows = [row for row in read_rows(run.metrics) if "task/counting/0/steps" in row]
        events = [json.loads(line) for line in run.events.read_text().splitlines()]
    kinds = Counter(event["kind"] for event in events)
    wrong = faults_in_the_books(rows) if rows else ["no row of metrics was written"]
    if code != 128 + signal.SIGTERM:
        wrong.append(f"the run ended with exit code {code}")
    growth, files = slope(story.megabytes), slope([float(count) for count in story.files])
    if options.minutes >= 5 and (growth > 1.0 or files > 2.0):
        wrong.append(f"the driver grew by {growth:.2f} MiB and {files:.1f} files a minute")
    print(f"faults: {', '.join(f'{count} x {what}' for what, count in story.faults.items())}")
    print(f"events: {', '.join(f'{count} x {what}' for what, count in kinds.items())}")
    if rows:
        print(f"{rows[-1]['env_steps']:,} steps and {rows[-1]['updates']:,} updates kept")
    print(f"driver: {growth:+.2f} MiB and {files:+.1f} open files a minute")
    for sentence in wrong:
        print(f"wrong: {sentence}")
    print("the books are wrong" if wrong else "the books are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
