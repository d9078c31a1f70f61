"""Return against policy lag: trajectory correction (V-trace) beside single-step clipping (PPO).

Both learn from the same unrolls once, with the same network, optimiser and batch, in the local
runtime, where `actors.version_delay` is the lag to the version. What differs is the loss.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import torch
import tyro
from rich.console import Console
from rich.table import Table

from deploy import local
from repertory.config import ActorConfig, EvaluationConfig, PpoConfig, RunConfig, VTraceConfig
from repertory.metrics.jsonl import read_rows
from repertory.recipes import get
from repertory.run_directory import RunDirectory


@dataclass(frozen=True)
class Options:
    """What to compare."""

    delays: tuple[int, ...] = (0, 1, 4, 16)
    """Versions that actors' weights are behind."""
    seeds: tuple[int, ...] = (1,)
    steps: int = 250_000
    """Agent steps of each run; the learning rate is not annealed."""
    processes: int = 2
    """Runs at a time."""


@dataclass(frozen=True)
class Job:
    """One run."""

    method: str
    delay: int
    seed: int
    steps: int


def config_of(job: Job) -> RunConfig:
    """Return the run: `breakout-check` with one worker whose lanes are a batch."""
    base = get("breakout-check").config
    algorithm = (
        VTraceConfig()
        if job.method == "vtrace"
        else PpoConfig(
            clip=0.2, epochs=1, minibatches=1, normalise_advantage=False, loss_reduction="sum"
        )
    )
    return base.model_copy(
        update={
            "seed": job.seed,
            "runtime": "local",
            "total_steps": job.steps,
            "algorithm": algorithm,
            "optimiser": base.optimiser.model_copy(update={"anneal": "none"}),
            "actors": ActorConfig(count=1, lanes=base.learner.batch_size, version_delay=job.delay),
            "evaluation": EvaluationConfig(at_end=False),
            "logging": base.logging.model_copy(update={"wandb": "disabled", "every_updates": 100}),
        }
    )


def final_return(job: Job) -> float:
    """Train and return the mean raw return of the last 100 episodes."""
    torch.set_num_threads(1)
    config = config_of(job)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        run = RunDirectory.create(Path(folder), "policy-lag", "run")
        local.train(config, run, False, console=Console(file=nothing))
        return float(read_rows(run.metrics)[-1]["agg/return_mean"])


def measure(options: Options) -> dict[tuple[str, int], list[float]]:
    """Run every method at every delay and seed; return the final returns."""
    jobs = [
        Job(method, delay, seed, options.steps)
        for seed in options.seeds
        for delay in options.delays
        for method in ("vtrace", "ppo")
    ]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        returns = list(pool.map(final_return, jobs))
    found: dict[tuple[str, int], list[float]] = {}
    for job, result in zip(jobs, returns, strict=True):
        found.setdefault((job.method, job.delay), []).append(result)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = tyro.cli(Options, args=argv, prog="repertory bench policy_lag")
    found = measure(options)
    table = Table(
        title=f"default Breakout, return after {options.steps:,} agent steps, "
        f"{len(options.seeds)} seed(s)"
    )
    table.add_column("policy lag, versions")
    for name in ("V-trace", "single-step clip (PPO)"):
        table.add_column(name, justify="right")
    for delay in options.delays:
        cells = [found["vtrace", delay], found["ppo", delay]]
        table.add_row(
            str(delay),
            *(
                f"{mean(cell):.1f} ({', '.join(f'{value:.1f}' for value in cell)})"
                for cell in cells
            ),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
