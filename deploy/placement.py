"""Where each part of a run would be placed, and an estimate of the memory it would take there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.build import is_off_policy
from deploy.several_learners import share_of
from deploy.task_memory import acting_bytes, task_bytes
from deploy.worker_numbers import follows_cluster, planned_workers
from repertory.config import RunConfig, SacConfig, Td3Config
from repertory.types import TaskSpec

MIB = 2**20
MORE_WORKERS = ", and such a worker on every other core that is free"
# Proportional set sizes measured with ray 2.60 and torch 2.13 (CPU): a worker process with the
# emulator, torch and a network 218 MiB; Ray's own processes on one idle machine about 500 MiB.
_PROCESS = 218 * MIB
_RAY = 500 * MIB
# One environment: an emulator's 0.7 MB of unique memory, measured over 64 of them; a Meta-World
# model with its data and memoised resets; a HalfCheetah.
_LANE = {"atari": 1 * MIB, "metaworld": 24 * MIB, "halfcheetah": 2 * MIB}
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
    lane = _LANE.get(config.environment.suite, 0)
    emulators = lanes * lane
    unrolls = (1 + config.actors.max_outstanding) * lanes * column
    local = config.runtime == "local"

    share = share_of(config, 0)
    held, holds = _experience(share, tasks, column)
    observations = share.learner.batch_size * (config.learner.unroll_length + 1)
    scale = config.network.width * (config.network.depth if config.network.torso == "impala" else 1)
    pixels = int(np.prod(spec.shape)) / 84**2 if len(spec.shape) > 1 else 1.0
    activations = int(observations * _ACTIVATIONS[config.network.torso] * scale * pixels)
    batches = 3 * share.learner.batch_size * column
    if is_off_policy(config):
        # Rows, not unrolls; what updates keep of them for the backward pass.
        network = config.network
        activations = 6 * share.learner.batch_size * network.hidden * (network.layers + 1) * 4
        batches = 3 * share.learner.batch_size * 2 * one

    joining = task_bytes(share, tasks)
    worn = acting_bytes(config, tasks, played=lanes, guided=True)
    apart = config.replay.place == "process" and is_off_policy(config) and not local
    own = 0 if local else _PROCESS
    where = "this process" if local else "cluster" if config.address else "this machine"
    device = config.learner.device
    core = "" if local else ", 1 CPU each"
    learner_core = "" if local else f", 1 CPU, device {device}"
    rows = [
        Part(
            "rollout worker",
            planned_workers(config),
            where + core,
            own + emulators + unrolls + worn,
            f"{lanes} lanes" + (MORE_WORKERS if follows_cluster(config) else ""),
        ),
        Part(
            "learner",
            config.learner.count,
            where + learner_core,
            _PROCESS + (0 if apart else held) + batches + activations + joining,
            f"{config.network.torso} network" + ("" if apart else f", {holds}"),
        ),
    ]
    if apart:
        rows.append(Part("replay", config.learner.count, where + core, _PROCESS + held, holds))
    if config.evaluation.every_steps or config.evaluation.at_end:
        slots = config.evaluation.lanes
        guided = "guided" in config.evaluation.policies
        greedy = acting_bytes(config, tasks, played=len(tasks), guided=guided)
        rows.append(
            Part(
                "evaluator",
                1,
                where + core,
                own + slots * lane + greedy,
                f"{slots} episodes at a time",
            )
        )
    if not local:
        rows.append(Part("driver", 1, "this process", _PROCESS, "metrics, checkpoints, console"))
        if not config.address:
            rows.append(Part("ray", 1, "this machine", _RAY, "its own processes"))
    return tuple(rows)


def _experience(config: RunConfig, tasks: Sequence[TaskSpec], column: int) -> tuple[int, str]:
    """Return the bytes of queues or replay, and what they hold in words."""
    if is_off_policy(config):
        return replay_bytes(config, tasks), f"replay of {config.replay.capacity:,} steps"
    share = -(-config.learner.batch_size // len(tasks))
    queued = int(share * config.queue.capacity_batches) * len(tasks)
    queued += planned_workers(config) * config.actors.lanes * config.actors.max_outstanding
    return queued * column, f"queues of {queued} unrolls"


def replay_bytes(config: RunConfig, tasks: Sequence[TaskSpec]) -> int:
    """Return the bytes of a full replay; 0 for runs that have none."""
    algorithm = config.algorithm
    if not isinstance(algorithm, SacConfig | Td3Config):
        return 0
    window = algorithm.guide.step
    observation = 4 * int(np.prod(tasks[0].observation.shape))
    # A window keeps one observation more than it has steps; 32 bytes say what it is.
    row = observation * (window + 1) / window + 4 * tasks[0].action.size + 4 + 32 / window
    return int(config.replay.capacity * row)


def memory(rows: Sequence[Part]) -> int:
    """Return the bytes of all parts together."""
    return sum(row.total for row in rows)
