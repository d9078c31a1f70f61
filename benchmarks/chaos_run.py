"""One run of the chaos benchmark: its config, what is done to it, and its books in the end."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import psutil

from benchmarks.chaos_books import Account, read_books, settle
from benchmarks.process_lives import ProcessLives
from benchmarks.recoveries import Recovery, recoveries
from benchmarks.run_processes import actors_of
from repertory import checkpoint
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
HOW = ("raise", "nan_reward", "hang", "nan_observation")
"""What environments of counting/1 do, by the incarnation of their worker."""
WEIGHTS = (0.4, 0.2, 0.1, 0.15, 0.15)
TASKS = 3
EPISODE = 7
POISONED_EVERY = 50
"""Every so many updates one learns from rewards that are NaN."""


@dataclass(frozen=True)
class Options:
    """How long, and which chaos."""

    minutes: float = 10.0
    seed: int = 1
    every_s: float = 12.0
    """Mean time between two faults."""
    slower: float = 0.5
    """Share of the steps per second of a run without faults that the last quarter must reach."""
    busy: float = 1.0
    """Times as long as on a quiet machine that workers may take to be back."""


@dataclass
class Story:
    """What was done to a run and what it cost."""

    strikes: list[tuple[float, str]] = field(default_factory=list)
    """When on the monotonic clock, and which fault."""
    lives: ProcessLives = field(default_factory=ProcessLives)


@dataclass(frozen=True)
class Ended:
    """What is left of a run."""

    rows: list[dict[str, Any]]
    events: Counter[str]
    account: Account | None
    recoveries: list[Recovery]
    wrong: list[str]
    """What is wrong with its books and with how it ended."""


def config_of(options: Options, *, broken: bool = True) -> RunConfig:
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
            fail_task="counting/1" if broken else "",
            fail_step=500,
            fail_times=2,
        ),
        network=NetworkConfig(torso="mlp", hidden=16, layers=1, conditioning="one_hot"),
        algorithm=SacConfig(exploration_steps=20, exploration="policy"),
        optimiser=OptimiserConfig(kind="adam", learning_rate=1e-3, anneal="none", epsilon=1e-8),
        # Published as rarely as in the recipes of SAC: Ray keeps some 0.2 KiB for each object that
        # another process has held, and updates as small as these come 50 to the second.
        learner=LearnerConfig(
            batch_size=12,
            unroll_length=5,
            precision="fp32",
            max_restarts=1000,
            publish_every=10,
        ),
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


def torment(
    options: Options, run: RunDirectory, story: Story, over: threading.Event, *, broken: bool
) -> None:
    """Break things until three quarters of the time are over, and end the run at its end."""
    random = stream(options.seed, "chaos")
    # However long the cluster takes to start: the time is that of a run that is under way.
    while not checkpoint.list_checkpoints(run.checkpoints):
        if over.wait(1.0):
            return
    due = begun = time.monotonic()
    end = begun + 60.0 * options.minutes
    calm = end - 15.0 * options.minutes
    while time.monotonic() < end and not over.wait(1.0):
        story.lives.sample()
        now = time.monotonic()
        if broken and due <= now < calm:
            fault: Fault = get_args(Fault)[random.choice(len(WEIGHTS), p=WEIGHTS)]
            if strike(fault, random):
                story.strikes.append((now, fault))
            due = now + random.exponential(options.every_s)
    if not over.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def torment_a_run(options: Options, story: Story, *, broken: bool) -> Ended:
    """Run, break what is to be broken, and settle the books."""
    # Slow to import, and not needed to say which options there are.
    from benchmarks.chaos_hosts import parts_of_chaos, steps_in
    from deploy import cluster

    over = threading.Event()
    config = config_of(options, broken=broken)
    with tempfile.TemporaryDirectory(prefix="repertory-chaos-") as folder:
        run = RunDirectory.create(Path(folder), config.recipe, "chaos")
        run.write_config(config, {})
        books = Path(folder) / "books"
        books.mkdir()
        thread = threading.Thread(
            target=torment, args=(options, run, story, over), kwargs={"broken": broken}, daemon=True
        )
        thread.start()
        try:
            with parts_of_chaos(books):
                code = cluster.train(config, run, False)
        finally:
            over.set()
            thread.join()
        rows = [row for row in read_rows(run.metrics) if "task/counting/0/steps" in row]
        events = Counter[str]()
        if run.events.exists():
            lines = run.events.read_text().splitlines()
            events.update(json.loads(line)["kind"] for line in lines)
        if not rows:
            return Ended([], events, None, [], ["no row of metrics was written"])
        state, _, _ = checkpoint.load_latest(run.checkpoints)
        read = read_books(books)
        account, wrong = settle(read, steps_in(state), config.actors.max_outstanding)
        found = recoveries(read, story.strikes, hangs=lambda n: HOW[n % len(HOW)] == "hang")
    if code != 128 + signal.SIGTERM:
        wrong.append(f"the run ended with exit code {code}")
    return Ended(rows, events, account, found, wrong)
