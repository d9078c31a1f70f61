"""What masks and the tasks' gradients add to memory, of the learner and of whoever acts, estimated.

Nothing is built for it.

Axes: M tasks, P weights that tasks share, C copies of a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deploy.build import guide_of, is_off_policy
from repertory.config import NetworkConfig, RunConfig
from repertory.masks import MaskMemory, memory_of
from repertory.types import ObservationSpec, TaskSpec

APPLIED_AS_NUMBERS = 256 * 2**20
"""As in `repertory.networks.masks`, which imports torch."""


class Shared(NamedTuple):
    """A network's trunk: matrices and convolutions."""

    weights: int
    """P, of one copy."""
    copies: int


def task_bytes(config: RunConfig, tasks: Sequence[TaskSpec]) -> int:
    """Return the bytes that the run's method of joining gradients takes in the learner."""
    method = config.gradients.method
    if method == "mean":
        return 0
    sizes = [memory_of(len(tasks), *one) for one in shared_weights(config, tasks)]
    if method == "harmony":
        return sum(_of_masks(config, one) for one in sizes)
    # One network at a time: the tasks' gradients as rows, and what an aggregator makes of them.
    return 2 * max(one.gradients for one in sizes)


def _of_masks(config: RunConfig, size: MaskMemory) -> int:
    # Masked weights are kept for the backward pass. Metrics take all tasks' gradients at once, a
    # mask update two of each, one batch's while those before it are held.
    most = config.masks.gradient_bytes
    scoring = min(size.gradients, most)
    if config.masks.variant != "random" and 2 * size.gradients <= most:
        scoring += 2 * size.gradients
    return size.packed + _ready(size) + size.gradients + scoring


def acting_bytes(config: RunConfig, tasks: Sequence[TaskSpec], *, played: int, guided: bool) -> int:
    """Return the bytes that masks take where some of the tasks are acted for.

    All tasks' masks and that of unseen ones, ready to multiply with, and the masked weights of the
    tasks that are played; with a guide every policy is asked, and every critic that comes with it.
    Measured in one process, unique memory: 187 MiB for atari-breakout-harmony's 21 tasks (178 here)
    and 128 for mt10-ctpg-harmony guided (130). Masks that change take up to twice as much, 365 and
    187 MiB: what one version leaves free does not always fit the next.
    """
    if config.gradients.method != "harmony":
        return 0
    guide = guide_of(config)
    # Critics come for what asks them: CTPG's policy filter, and QMP's choice.
    asked = guide is not None and (
        guide.kind == "qmp" or (guide.kind == "ctpg" and guide.policy_filter != "off")
    )
    networks = shared_weights(config, tasks)[: 2 if asked else 1]
    if guided and guide is not None:
        played = len(tasks)
    total = 0
    for number, (weights, copies) in enumerate(networks):
        total += _ready(memory_of(len(tasks) + 1, weights))
        if number == 0 or guided:
            total += memory_of(min(played, len(tasks)), weights, copies).gradients
    changing = config.masks.variant != "random" and config.masks.alpha > 0.0
    return 2 * total if changing else total


def _ready(size: MaskMemory) -> int:
    return size.applied if size.applied <= APPLIED_AS_NUMBERS else size.boolean


def shared_weights(config: RunConfig, tasks: Sequence[TaskSpec]) -> list[Shared]:
    """Return the trunks that masks are drawn for, and gradients joined of."""
    network, spec = config.network, tasks[0].observation
    if not is_off_policy(config):
        return [Shared(_actor_critic(network, spec), 1)]
    inputs, hidden = int(np.prod(spec.shape)), network.hidden
    deep = (network.layers - 1) * hidden * hidden
    actor = Shared(inputs * hidden + deep, 1)
    return [actor, Shared((inputs + tasks[0].action.size) * hidden + deep, 2)]


def _actor_critic(network: NetworkConfig, spec: ObservationSpec) -> int:
    hidden, lstm = network.hidden, network.lstm
    total = _torso(network, spec)
    if network.conditioning != "none":
        total += hidden * hidden
    return total + 4 * lstm * (hidden + lstm)


def _torso(network: NetworkConfig, spec: ObservationSpec) -> int:
    hidden, channels, side = network.hidden, spec.stack, spec.shape[0]

    def scaled(published: int) -> int:
        return max(1, round(published * network.width))

    total = 0
    match network.torso:
        case "mlp":
            return spec.shape[0] * spec.stack * hidden + hidden * hidden
        case "impala":
            for published in (16, 32, 32):
                outputs = scaled(published)
                total += 9 * channels * outputs + 4 * network.depth * 9 * outputs * outputs
                channels, side = outputs, (side + 1) // 2
        case "shallow" | "nature":
            layers = [(16, 8, 4), (32, 4, 2)]
            if network.torso == "nature":
                layers = [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
            for published, kernel, stride in layers:
                outputs = scaled(published)
                total += kernel * kernel * channels * outputs
                channels, side = outputs, (side - kernel) // stride + 1
    return total + channels * side * side * hidden
