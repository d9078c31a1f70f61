"""The time of one update by each way to join the tasks' gradients, relative to the plain mean.

`repertory bench gradients` takes the methods in turn, one update each, so that a busy machine
disturbs them alike, and prints the median of each one's ratio to the plain update of the same
round, with the quartiles of the rounds; then peak memory, each method in a process of its own; then
what mask updates and acting under masks cost. SAC is a 5 x 400 network with 10 tasks of 128 rows,
V-trace the shallow Atari network with 8 variants of 20 steps. On a CPU time is that of the process,
with one torch thread.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from benchmarks.mask_costs import acting_line, mask_update_lines
from benchmarks.sac import interleaved, metaworld_sized, random_batch
from learner.sac import SacLearner
from learner.vtrace import VTraceLearner
from repertory.config import (
    GradientConfig,
    LearnerConfig,
    MaskConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    SacConfig,
    VTraceConfig,
)
from repertory.config.gradients import missing_packages
from repertory.errors import BadInput
from repertory.networks.actor_critic import build_network
from repertory.networks.control_agent import build_agent
from repertory.types import ActionSpec, ObservationSpec, TaskSpec, Unroll

Size = Literal["mlp", "atari"]
METHODS = (
    "mean",
    "harmony",
    "pcgrad",
    "gradnorm",
    "torchjd:upgrad",
    "torchjd:alignedmtl",
    "torchjd:cagrad",
    "torchjd:nashmtl",
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    size: tuple[Size, ...] = ("mlp", "atari")
    method: tuple[str, ...] = METHODS
    """Those whose packages are missing are left out."""
    rounds: int = 7
    """Updates of each that are timed."""
    columns: int = 8
    """Unrolls in a batch of V-trace, equal shares of its 8 variants."""
    memory: Literal["on", "off"] = "on"
    """Measure peak memory too, in new processes."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"


def sac_update(
    options: Options, gradients: GradientConfig, masks: MaskConfig
) -> Callable[[], object]:
    """Return one update of multi-task SAC at the papers' size."""
    config = RunConfig(
        algorithm=SacConfig(),
        network=NetworkConfig(torso="mlp", hidden=400, layers=5, conditioning="one_hot"),
        optimiser=OptimiserConfig(kind="adam", learning_rate=1e-4, anneal="none", epsilon=1e-8),
        learner=LearnerConfig(device=options.device, precision="fp32"),
        gradients=gradients,
        masks=masks,
    )
    tasks = metaworld_sized(10)
    learner = SacLearner(build_agent(tasks, config, 1), config, tasks)
    batch = random_batch(10, 128)
    return lambda: learner.update(batch, 0.0)


def random_unroll(tasks: Sequence[TaskSpec], columns: int, steps: int) -> Unroll:
    """Return an unroll of random frames, `columns` in equal shares of the tasks."""
    random = np.random.default_rng(0)
    spec, actions = tasks[0].observation, tasks[0].action.size
    task = np.arange(columns, dtype=np.int32) * len(tasks) // columns
    shape = (steps, columns)
    return Unroll(
        worker=0,
        incarnation=0,
        sequence=0,
        task=task,
        policy_version=np.zeros(columns, np.int64),
        observation=random.integers(
            0, 256, (spec.history + steps + 1, columns, *spec.shape), dtype=np.uint8
        ),
        age=np.full((steps + 1, columns), 9, np.uint8),
        action=random.integers(0, actions, shape),
        reward=random.normal(size=shape).astype(np.float32),
        terminated=np.zeros(shape, bool),
        truncated=np.zeros(shape, bool),
        valid=np.ones(shape, bool),
        behaviour_log_probability=np.full(shape, -np.log(actions), np.float32),
        guide=np.tile(task, (steps, 1)),
        decision=np.zeros(shape, bool),
        recurrent=np.zeros((columns, 0), np.float32),
    )


def vtrace_update(
    options: Options, gradients: GradientConfig, masks: MaskConfig
) -> Callable[[], object]:
    """Return one update of V-trace on the shallow network of the IMPALA paper."""
    if options.columns % 8:
        raise BadInput(f"--columns {options.columns} is not a multiple of the 8 variants")
    spec = ObservationSpec((84, 84), "uint8", 4)
    tasks = [TaskSpec(i, f"task{i}", spec, ActionSpec("discrete", 18), 0.99) for i in range(8)]
    config = RunConfig(
        algorithm=VTraceConfig(),
        network=NetworkConfig(torso="shallow"),
        learner=LearnerConfig(device=options.device, precision="fp32", compile="off"),
        gradients=gradients,
        masks=masks,
    )
    learner = VTraceLearner(build_network(tasks, config.network, 1), config, tasks)
    batch = random_unroll(tasks, options.columns, 20)
    return lambda: learner.update(batch, 0.0)


def update_of(
    options: Options, size: Size, method: str, masks: MaskConfig | None = None
) -> Callable[[], object]:
    """Return one update of a size by a method, without measurements unless `masks` want them."""
    gradients = GradientConfig.model_validate({"method": method, "metrics_every": 0})
    masks = masks or MaskConfig(metrics_every=10**9)
    return (sac_update if size == "mlp" else vtrace_update)(options, gradients, masks)


def peak_mib(options: Options, size: Size, method: str) -> float:
    """Return the peak memory of a new process that takes three updates, above its start."""
    device = options.device
    code = (
        "from benchmarks.gradients import grown_mib;"
        f"print(grown_mib({size!r}, {method!r}, {options.columns}, {device!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def grown_mib(
    size: Size, method: str, columns: int, device: Literal["auto", "cpu", "cuda"]
) -> float:
    """Return by how much three updates raise this process's peak memory (CUDA: the device's)."""
    torch.set_num_threads(1)
    update = update_of(Options(columns=columns, device=device), size, method)
    before = _status_mib("VmRSS")
    for _ in range(3):
        update()
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return _status_mib("VmHWM") - before


def _status_mib(entry: Literal["VmRSS", "VmHWM"]) -> float:
    """Return this process's memory, now or at its peak, in MiB; NaN where the system won't say."""
    # Not ru_maxrss: a new process inherits that from the one that starts it.
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.nan
    return next(float(line.split()[1]) for line in lines if line.startswith(entry)) / 2**10


def main(tokens: Sequence[str] | None = None) -> None:
    """Print a table for each size."""
    options = tyro.cli(Options, args=tokens, prog="repertory bench gradients")
    torch.set_num_threads(1)
    cuda = options.device != "cpu" and torch.cuda.is_available()
    names = ["mean", *(name for name in options.method if name != "mean")]
    missing = {name: missing_packages(name) for name in names}
    for name, packages in missing.items():
        if packages:
            print(f"{name} is left out: {', '.join(packages)} not installed")
    names = [name for name in names if not missing[name]]
    for size in options.size:
        print({"mlp": "SAC, 5 x 400, 10 tasks of 128", "atari": "V-trace, 8 variants"}[size])
        updates = {name: update_of(options, size, name) for name in names}
        seconds = interleaved(updates, options.rounds, cuda=cuda)
        print(f"{'method':20}{'median ms':>10}{'ratio':>8}{'quartiles':>14}{'peak MiB':>10}")
        for name in names:
            ratios = [
                own / plain for own, plain in zip(seconds[name], seconds["mean"], strict=True)
            ]
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            memory = f"{peak_mib(options, size, name):10.0f}" if options.memory == "on" else ""
            print(
                f"{name:20}{statistics.median(seconds[name]) * 1e3:10.1f}{middle:8.2f}"
                f"{low:7.2f}-{high:.2f}  {memory}"
            )
        if "harmony" in names:
            _print_mask_costs(options, size, cuda=cuda)


def _print_mask_costs(options: Options, size: Size, *, cuda: bool) -> None:
    def under_masks(masks: MaskConfig) -> Callable[[], object]:
        return update_of(options, size, "harmony", masks)

    for line in mask_update_lines(under_masks, options.rounds, cuda=cuda):
        print(line)
    print(acting_line(size, 3 * options.rounds))


if __name__ == "__main__":
    main()
