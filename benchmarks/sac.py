"""Updates per second of multi-task SAC at the size of the papers, beside a plain PyTorch loop.

`repertory bench sac` takes the variants in turn, one update each, so that a busy machine disturbs
them alike, and prints each one's median seconds per update and its speed over the plain loop
(benchmarks/plain_sac.py); then what the guide adds. On a CPU time is that of the process, with one
torch thread.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import tyro

from benchmarks.plain_sac import PlainSac
from learner.sac import SacLearner
from repertory.config import (
    GuideConfig,
    LearnerConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    SacConfig,
)
from repertory.networks.control_agent import build_agent
from repertory.types import ActionSpec, ObservationSpec, ReplayBatch, TaskSpec, Windows

OBSERVATION, ACTION = 39, 4
LEARNING_RATE = 1e-4
Method = Literal["mtsac", "mhsac"]
Format = Literal["fp32", "bf16"]
FORMATS: tuple[Format, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Options:
    """What to measure; the defaults are Meta-World MT10 with the papers' networks."""

    method: tuple[Method, ...] = ("mtsac", "mhsac")
    tasks: int = 10
    rows_per_task: int = 128
    hidden: int = 400
    layers: int = 5
    rounds: int = 10
    """Updates of each that are timed."""
    guide: Literal["on", "off"] = "on"
    """Time the guide's share of an update too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class Measurement:
    """Seconds per update over some rounds."""

    method: str
    variant: str
    median_s: float
    least_s: float
    speed: float
    """Updates per second over those of the plain loop: the median of the rounds' own ratios."""


def metaworld_sized(count: int) -> list[TaskSpec]:
    """Return tasks with the sizes of Meta-World's observations and actions."""
    spec = ObservationSpec((OBSERVATION,), "float32")
    return [
        TaskSpec(index, f"task{index}", spec, ActionSpec("box", ACTION), 0.99)
        for index in range(count)
    ]


def random_batch(tasks: int, each: int, seed: int = 0) -> ReplayBatch:
    """Return a replayed batch of random numbers."""
    random = np.random.default_rng(seed)
    rows = tasks * each
    return ReplayBatch(
        task=np.arange(tasks, dtype=np.int32).repeat(each),
        observation=random.normal(size=(rows, OBSERVATION)).astype(np.float32),
        action=random.uniform(-1, 1, (rows, ACTION)).astype(np.float32),
        reward=random.normal(size=rows).astype(np.float32),
        terminated=random.random(rows) < 0.01,
        truncated=random.random(rows) < 0.01,
        next_observation=random.normal(size=(rows, OBSERVATION)).astype(np.float32),
        success_rate=np.full(tasks, np.nan, np.float32),
    )


def random_windows(tasks: int, each: int, steps: int, seed: int = 0) -> Windows:
    """Return full windows of random numbers."""
    random = np.random.default_rng(seed)
    count = tasks * each
    return Windows(
        task=np.arange(tasks, dtype=np.int32).repeat(each),
        guide=random.integers(0, tasks, count, dtype=np.int32),
        observation=random.normal(size=(steps + 1, count, OBSERVATION)).astype(np.float32),
        action=random.uniform(-1, 1, (steps, count, ACTION)).astype(np.float32),
        reward=random.normal(size=(steps, count)).astype(np.float32),
        length=np.full(count, steps, np.int32),
        terminated=random.random(count) < 0.01,
        truncated=np.zeros(count, bool),
    )


def our_learner(
    options: Options, method: Method, precision: Format, guide: GuideConfig | None = None
) -> SacLearner:
    """Return our learner of a method at these sizes, unguided unless told otherwise."""
    config = RunConfig(
        algorithm=SacConfig(guide=guide or GuideConfig()),
        network=NetworkConfig(
            torso="mlp",
            hidden=options.hidden,
            layers=options.layers,
            conditioning="one_hot" if method == "mtsac" else "none",
            heads="shared" if method == "mtsac" else "per_task",
        ),
        optimiser=OptimiserConfig(
            kind="adam", learning_rate=LEARNING_RATE, anneal="none", epsilon=1e-8, clip_norm=1e9
        ),
        learner=LearnerConfig(device=options.device, precision=precision),
    )
    tasks = metaworld_sized(options.tasks)
    return SacLearner(build_agent(tasks, config, 1), config, tasks)


def plain_update(options: Options, method: Method, batch: ReplayBatch) -> Callable[[], None]:
    """Return one update of the plain loop."""
    device = torch.device("cuda" if _on_cuda(options) else "cpu")
    torch.set_default_device(device)
    plain = PlainSac(
        OBSERVATION,
        ACTION,
        tasks=options.tasks,
        hidden=options.hidden,
        layers=options.layers,
        heads=method == "mhsac",
        learning_rate=LEARNING_RATE,
    )
    torch.set_default_device("cpu")
    rows = batch.reward.shape[0]

    def update() -> None:
        def moved(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        plain.update(
            task=moved(batch.task),
            observation=moved(batch.observation),
            action=moved(batch.action),
            reward=moved(batch.reward),
            terminated=moved(batch.terminated),
            next_observation=moved(batch.next_observation),
            noise=(
                torch.randn(rows, ACTION, device=device),
                torch.randn(rows, ACTION, device=device),
            ),
        )

    return update


def _on_cuda(options: Options) -> bool:
    return options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())


def interleaved(
    updates: dict[str, Callable[[], object]], rounds: int, *, cuda: bool
) -> dict[str, list[float]]:
    """Return each one's seconds in every round: wall on CUDA, of this process on a CPU."""
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for update in updates.values():
        update()
    for _ in range(rounds):
        for name, update in updates.items():
            if cuda:
                torch.cuda.synchronize()
            clock = time.perf_counter if cuda else time.process_time
            started = clock()
            update()
            if cuda:
                torch.cuda.synchronize()
            seconds[name].append(clock() - started)
    return seconds


def measure(options: Options, method: Method) -> list[Measurement]:
    """Return the plain loop and ours in both formats, in that order."""
    batch = random_batch(options.tasks, options.rows_per_task)
    fp32 = our_learner(options, method, "fp32")
    bf16 = our_learner(options, method, "bf16")
    updates: dict[str, Callable[[], object]] = {
        "plain": plain_update(options, method, batch),
        "fp32": lambda: fp32.update(batch, 0.0),
        "bf16": lambda: bf16.update(batch, 0.0),
    }
    seconds = interleaved(updates, options.rounds, cuda=_on_cuda(options))
    return [
        Measurement(
            method,
            name,
            statistics.median(times),
            min(times),
            statistics.median(
                theirs / own for theirs, own in zip(seconds["plain"], times, strict=True)
            ),
        )
        for name, times in seconds.items()
    ]


@dataclass(frozen=True)
class GuideShare:
    """What guidance adds to an update, spread over the K updates of which one trains the guide."""

    method: str
    precision: str
    without_hindsight: float
    """Share of the unguided update's seconds."""
    hindsight: float
    """Share that the relabelling of windows adds to that."""


def measure_guide(options: Options, method: Method, precision: Format) -> GuideShare:
    """Return the shares at the papers' numbers: as many windows as rows, each of K = 10 steps."""
    batch = random_batch(options.tasks, options.rows_per_task)
    steps = GuideConfig().step
    windowed = dataclasses.replace(
        batch, windows=random_windows(options.tasks, options.rows_per_task, steps)
    )
    plain, own, both = (
        our_learner(options, method, precision, guide)
        for guide in (
            GuideConfig(),
            GuideConfig(kind="ctpg", hindsight=False),
            GuideConfig(kind="ctpg", hindsight=True),
        )
    )
    seconds = interleaved(
        {
            "plain": lambda: plain.update(batch, 0.0),
            "own": lambda: own.update(windowed, 0.0),
            "both": lambda: both.update(windowed, 0.0),
        },
        options.rounds,
        cuda=_on_cuda(options),
    )
    unguided, own_s, both_s = (statistics.median(times) for times in seconds.values())
    return GuideShare(
        method,
        precision,
        (own_s - unguided) / steps / unguided,
        (both_s - own_s) / steps / unguided,
    )


def main(tokens: Sequence[str] | None = None) -> None:
    """Print a table."""
    options = tyro.cli(Options, args=tokens, prog="repertory bench sac")
    torch.set_num_threads(1)
    rows = options.tasks * options.rows_per_task
    print(f"SAC, {options.tasks} tasks, {rows} rows, {options.layers} x {options.hidden}")
    print(
        f"{'method':8}{'variant':9}{'median ms':>10}{'least ms':>10}{'updates/s':>11}{'speed':>8}"
    )
    for method in options.method:
        for one in measure(options, method):
            print(
                f"{one.method:8}{one.variant:9}{one.median_s * 1e3:10.1f}{one.least_s * 1e3:10.1f}"
                f"{1 / one.median_s:11.2f}{one.speed:7.2f}x"
            )
    if options.guide == "off":
        return
    print(f"\nguide, every {GuideConfig().step}th update, in shares of an unguided update")
    print(f"{'method':8}{'format':9}{'guide':>10}{'hindsight':>11}")
    for method in options.method:
        for precision in FORMATS:
            share = measure_guide(options, method, precision)
            print(f"{method:8}{precision:9}{share.without_hindsight:10.1%}{share.hindsight:11.1%}")


if __name__ == "__main__":
    main()
