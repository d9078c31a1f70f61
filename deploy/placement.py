"""Where each part of a run would be placed, and an estimate of the memory it would take there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repertory.config import RunConfig
from repertory.types import TaskSpec

MIB = 2**20
# Proportional set sizes measured with ray 2.60 and torch 2.13 (CPU): a worker process with the
# emulator, torch and a network 218 MiB; Ray's own processes on one idle machine about 500 MiB.
_PROCESS = 218 * MIB
_RAY = 500 * MIB
# One emulator: 0.7 MB of unique memory, measured over 64 of them.
_LANE = 1 * MIB
# Activations kept for the backward pass and their gradients, float32, per observation of 84x84.
_ACTIVATIONS = {"mlp": 0.05 * MIB, "shallow": 0.4 * MIB, "nature": 0.5 * MIB, "impala": 6.0 * MIB}


@dataclass(frozen=True, slots=True)
class Part:
    """Some alike processes (or, in one process, alike objects) of a run."""

    name: str
    count: int
    place: str
    memory: int
    """Bytes of one."""
    contents: str

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.count * self.memory


def parts(config: RunConfig, tasks: Sequence[TaskSpec]) -> tuple[Part, ...]:
    """Return the parts of a run with their places and memory, for either runtime."""
    spec = tasks[0].observation
    one = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    column = (spec.history + config.learner.unroll_length + 1) * one
    lanes = config.actors.lanes
    emulators = lanes * (_LANE if config.environment.suite == "atari" else 0)
    unrolls = (1 + config.actors.max_outstanding) * lanes * column
    local = config.runtime == "local"

    share = -(-config.learner.batch_size // len(tasks))
    queued = int(share * config.queue.capacity_batches) * len(tasks)
    queued += config.actors.count * lanes * config.actors.max_outstanding
    observations = config.learner.batch_size * (config.learner.unroll_length + 1)
    scale = config.network.width * (config.network.depth if config.network.torso == "impala" else 1)
    pixels = int(np.prod(spec.shape)) / 84**2 if len(spec.shape) > 1 else 1.0
    activations = int(observations * _ACTIVATIONS[config.network.torso] * scale * pixels)
    batches = 3 * config.learner.batch_size * column

    own = 0 if local else _PROCESS
    where = "this process" if local else "cluster" if config.address else "this machine"
    device = config.learner.device
    core = "" if local else ", 1 CPU each"
    learner_core = "" if local else f", 1 CPU, device {device}"
    rows = [
        Part(
            "rollout worker",
            config.actors.count,
            where + core,
            own + emulators + unrolls,
            f"{lanes} lanes",
        ),
        Part(
            "learner",
            1,
            where + learner_core,
            _PROCESS + queued * column + batches + activations,
            f"{config.network.torso} network, queues of {queued} unrolls",
        ),
    ]
    if config.evaluation.every_steps or config.evaluation.at_end:
        slots = config.evaluation.lanes
        rows.append(
            Part("evaluator", 1, where + core, own + slots * _LANE, f"{slots} episodes at a time")
        )
    if not local:
        rows.append(Part("driver", 1, "this process", _PROCESS, "metrics, checkpoints, console"))
        if not config.address:
            rows.append(Part("ray", 1, "this machine", _RAY, "its own processes"))
    return tuple(rows)


def memory(rows: Sequence[Part]) -> int:
    """Return the bytes of all parts together."""
    return sum(row.total for row in rows)
