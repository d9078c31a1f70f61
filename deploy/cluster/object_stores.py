"""What a run needs of Ray's object stores, where unrolls lie while they are under way and queued.

A cluster of the run's own is started with as much; nodes of one that it joins have what they have,
and Ray writes what does not fit to the disk, which is slow and which nothing tells of.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import psutil
import ray

from deploy import build, placement
from deploy.cluster import nodes
from deploy.worker_numbers import planned_workers
from repertory.config import RunConfig

log = logging.getLogger(__name__)

_FLOOR = 200 * 2**20
_MIB = 2**20
FULL = 0.8
"""Ray begins to write objects to the disk when a store is so full."""


def unroll_bytes(config: RunConfig) -> int:
    """Return the size of one worker's unroll, nearly all of it observations."""
    spec = build.tasks_of(config)[0].observation
    one = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    return (spec.history + config.learner.unroll_length + 1) * config.actors.lanes * one


def worker_bytes(config: RunConfig) -> int:
    """Return what one worker's deliveries pin: those that await a receipt, and two more."""
    return (config.actors.max_outstanding + 2) * unroll_bytes(config)


def queued_bytes(config: RunConfig) -> int:
    """Return what queues pin of unrolls; replay copies what it keeps."""
    if build.is_off_policy(config):
        return 0
    queued = config.queue.capacity_batches * config.learner.batch_size / config.actors.lanes
    return int(queued * unroll_bytes(config))


def contents_bytes(config: RunConfig) -> int:
    """Return what a checkpoint puts into the store: a replay's contents, where they are saved."""
    if not build.saves_contents(config):
        return 0
    return placement.replay_bytes(config, build.tasks_of(config))


def object_store_bytes(config: RunConfig) -> int:
    """Return the size of the store of a cluster of our own: twice what can be pinned there."""
    wanted = planned_workers(config) * worker_bytes(config) + queued_bytes(config)
    # A checkpoint travels from where the replay is to the driver, which writes it.
    wanted += contents_bytes(config)
    ceiling = int(0.3 * psutil.virtual_memory().total)
    return min(max(_FLOOR, 2 * wanted), ceiling)


def warn_of_small_stores(config: RunConfig) -> None:
    """Say which nodes of the cluster that the run has joined may come to write to their disks."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    small = [
        f"{node['NodeManagerAddress']} has {held / _MIB:,.0f} MiB and may need "
        f"{needed / FULL / _MIB:,.0f}"
        for node in alive
        if (held := node["Resources"].get("object_store_memory", 0.0)) * FULL
        < (needed := _needed_on(node, alive, config))
    ]
    if small:
        log.warning(
            "the object stores of these nodes are small for this run, and what does not fit goes "
            "to their disks, which is slow: %s; start them with a larger --object-store-memory, "
            "or use a smaller actors.max_outstanding, actors.lanes or learner.unroll_length",
            "; ".join(small),
        )


def _needed_on(node: dict[str, Any], alive: list[dict[str, Any]], config: RunConfig) -> int:
    """Return the bytes that parts of the run pin on a node, if as many come there as it can hold.

    Deliveries lie on the node of their worker first, and on that of the learner, or of its replay,
    until they were learned from.
    """
    workers = planned_workers(config)
    here = min(workers, int(node["Resources"].get("CPU", 0.0)))
    needed = here * worker_bytes(config)
    if nodes.may_be_learners(node, alive):
        # Each learner has its part of the workers and of every batch, and may be the only one here.
        needed = (workers * worker_bytes(config) + queued_bytes(config)) // config.learner.count
        needed = max(needed, here * worker_bytes(config)) + contents_bytes(config)
    return needed
