"""One run of the scaling benchmark: its options and config, and what cannot be measured here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.scaling_table import around_marks
from repertory.config import (
    ActorConfig,
    AtariConfig,
    CheckpointConfig,
    CountingConfig,
    EvaluationConfig,
    LearnerConfig,
    LoggingConfig,
    NetworkConfig,
    QueueConfig,
    RunConfig,
)
from repertory.errors import BadInput

# Unique memory of a worker with torch and of everything that is there once: Ray, learner, driver.
WORKER_BYTES = 200 * 2**20
COMMON_BYTES = 1200 * 2**20


@dataclass(frozen=True)
class Options:
    """What to measure."""

    workers: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of workers, one run each."""
    suite: Literal["counting", "atari"] = "counting"
    """counting: steps that sleep; atari: four variants of Breakout on the shallow network, for what
    unrolls of real size cost. Their rate is the machine's own, and `of ideal` is left out.
    """
    step_ms: float = 20.0
    """A step of all lanes of a worker takes so long, where it sleeps."""
    seconds: float = 20.0
    """Length of each measurement, after all workers have delivered."""
    lanes: int = 16
    unroll_length: int = 20
    hidden: int = 64
    """Width of the network, which is what is broadcast."""
    output: str = ""
    """File for the measurements as JSON."""
    markdown: str = ""
    """File whose marked table is filled with the measurements, for instance docs/scaling.md."""

    @property
    def sleeps(self) -> bool:
        """Whether a step takes the time that was set, and there is an ideal to compare with."""
        return self.suite == "counting"


def config_of(options: Options, workers: int) -> RunConfig:
    """Return the run that is measured: two unrolls of a worker fill half a batch."""
    if not options.sleeps:
        played: dict[str, Any] = {
            "tasks": tuple(f"atari/breakout/m{mode}d0" for mode in (0, 4, 16, 20)),
            "environment": AtariConfig(),
            "network": NetworkConfig(torso="shallow"),
        }
    else:
        played = {
            "tasks": tuple(f"counting/{index}" for index in range(4)),
            # Episodes so long that their resets and records do not count.
            "environment": CountingConfig(
                episode_length=1000, step_seconds=options.step_ms / 1000 / options.lanes
            ),
            "network": NetworkConfig(torso="mlp", hidden=options.hidden),
        }
    return RunConfig.model_validate(
        {
            "recipe": "bench-scaling",
            **played,
            "held_out": (),
            "total_steps": 10**12,
            "actors": ActorConfig(count=workers, lanes=options.lanes),
            "queue": QueueConfig(max_policy_lag=10_000),
            "learner": LearnerConfig(
                batch_size=4 * options.lanes,
                unroll_length=options.unroll_length,
                device="cpu",
                compile="off",
            ),
            "logging": LoggingConfig(wandb="disabled"),
            "checkpoint": CheckpointConfig(every_s=1e9),
            "evaluation": EvaluationConfig(at_end=False),
        }
    )


def check(options: Options) -> None:
    """Raise BadInput for what cannot be measured here."""
    wrong = [count for count in options.workers if count < 1]
    if wrong or not options.workers:
        raise BadInput(f"workers: need numbers above 0, got {wrong[0] if wrong else 'none'}")
    # Steps are counted when their unroll comes: a window of few unrolls counts one too many or few.
    least_s = 10 * options.unroll_length * options.step_ms / 1000
    if options.sleeps and options.seconds < least_s:
        raise BadInput(
            f"seconds: {options.seconds:g} hold fewer than ten unrolls of {options.unroll_length} "
            f"steps of {options.step_ms:g} ms; use at least {least_s:g}"
        )
    free = psutil.virtual_memory().available
    most = int((free - COMMON_BYTES) // WORKER_BYTES)
    if max(options.workers) > most:
        raise BadInput(
            f"{max(options.workers)} workers take about "
            f"{(max(options.workers) * WORKER_BYTES + COMMON_BYTES) / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free: at most {max(most, 0)} fit"
        )
    if options.markdown:
        around_marks(Path(options.markdown))
    if options.output and not Path(options.output).absolute().parent.is_dir():
        raise BadInput(f"output: there is no folder for {options.output}")


def command(options: Options) -> str:
    """Return what to type to measure the same again."""
    played = (
        f"--step-ms {options.step_ms:g} --hidden {options.hidden}"
        if options.sleeps
        else f"--suite {options.suite}"
    )
    return (
        f"repertory bench scaling --workers {' '.join(str(count) for count in options.workers)} "
        f"{played} --seconds {options.seconds:g} --lanes {options.lanes} "
        f"--unroll-length {options.unroll_length}"
    )
