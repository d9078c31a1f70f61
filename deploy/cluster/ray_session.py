"""Starting, joining and leaving a Ray cluster, with deadlines and sentences Ray does not give."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator

import ray
from ray.autoscaler.sdk import request_resources

from deploy import process_end
from deploy.address import greet, token_hint
from deploy.cluster.faults import first_line
from deploy.cluster.object_stores import object_store_bytes
from deploy.worker_numbers import follows_cluster, other_cores, planned_workers
from repertory.config import RunConfig
from repertory.errors import ClusterFailure

log = logging.getLogger(__name__)

_LOOK_S = 1.0


@contextlib.contextmanager
def ray_session(config: RunConfig, stopped: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Be connected to Ray while entered: to `config.address`, or to a cluster of our own.

    `stopped` tells whether the wait for nodes is to end. Ray replaces the handler of SIGTERM.
    """
    process_end.close_left()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Unrolls of megabytes come and go on Ray's many threads: one malloc arena for all of them keeps
    # a worker some 100 MB smaller. Inherited by the processes of a cluster that starts here.
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # What ended a worker is told in a sentence and an event; Ray would add pages of its own for
    # those that are killed together with a lost learner.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    if config.address:
        join(config.address)
    else:
        _start(config)
    try:
        wait_for_room(config, stopped)
        yield
    finally:
        if config.address:
            process_end.close_or_leave(ray.shutdown)
        else:
            ray.shutdown()


def _start(config: RunConfig) -> None:
    # Ray listens on all interfaces. A token of our own, never written to a file, keeps others out;
    # with a token at hand and RAY_AUTH_MODE not set, Ray 2.60 turns authentication on for the
    # cluster it starts (the variable itself is read when ray is imported, too early for us).
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.pop("RAY_ADDRESS", None)
    gpus = None if config.learner.device != "cpu" else 0
    try:
        ray.init(
            # A cluster of our own, also where Ray would join another one on this machine.
            address="local",
            # Logical: workers and learner share the cores there are, and none may wait for a slot.
            num_cpus=cores_of(config),
            num_gpus=gpus,
            include_dashboard=False,
            object_store_memory=object_store_bytes(config),
            log_to_driver=False,
            logging_level="error",
        )
    except Exception as error:  # bare ones among them, where a start has taken Ray too long
        ray.shutdown()
        raise ClusterFailure(
            f"Ray did not start on this machine ({first_line(error)}); where the machine is busy, "
            "try again later"
        ) from error


def join(address: str) -> None:
    """Connect to a cluster that runs. Raises ClusterFailure where nothing answers or lets us in."""
    greet(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        # Ray says nothing of tokens where the one given is wrong.
        raise ClusterFailure(
            f"could not join the Ray cluster at {address}: {token_hint()}"
        ) from error


def wait_for_room(config: RunConfig, stopped: Callable[[], bool] = lambda: False) -> None:
    """Raise ClusterFailure when the cluster has too little for the run: Ray would wait for ever.

    A run that joins gives nodes `actors.nodes_wait_s` to come, and asks an autoscaler for them;
    then one worker is enough to begin with, and the others start when nodes join.
    """
    workers = planned_workers(config)
    lacking = _lacking(config, workers)
    wait_s = config.actors.nodes_wait_s if config.address else 0.0
    if lacking and wait_s:
        log.warning("%s; waiting up to %.0f s for them", lacking, wait_s)
        request_resources(bundles=[{"CPU": 1}] * cores_of(config))
        try:
            deadline = time.monotonic() + wait_s
            while lacking and time.monotonic() < deadline and not stopped():
                time.sleep(_LOOK_S)
                lacking = _lacking(config, workers)
        finally:
            # What runs keeps its nodes; a standing request would keep them after the run too.
            request_resources(bundles=[])
    # Of a run that follows the cluster, each learner has one worker only.
    if hopeless := _lacking(config, workers if follows_cluster(config) else 1):
        raise ClusterFailure(hopeless)
    if lacking:
        log.warning("%s; the run begins with those it has", lacking)


def _lacking(config: RunConfig, workers: int) -> str:
    resources = ray.cluster_resources()
    others, numbered = other_cores(config), config.actors.count != "all"
    cores, needed = int(resources.get("CPU", 0)), workers + others
    if cores < needed:
        return (
            f"{workers} worker{'s' if workers > 1 else ''}, the learner and the evaluator need "
            f"{needed} cores and the cluster has {cores}: add nodes"
            + (f" or use --actors.count {cores - others}" if numbered and cores > others else "")
        )
    gpus, learners = int(resources.get("GPU", 0)), config.learner.count
    if config.learner.device == "cuda" and gpus < 1:
        return (
            "learner.device is cuda and no node of the cluster has a GPU: use --learner.device cpu"
        )
    if config.learner.device == "cuda" and gpus < learners:
        return (
            f"{learners} learners need a GPU each and the cluster has {gpus}: "
            f"use --learner.count {gpus}"
        )
    return ""


def cores_of(config: RunConfig) -> int:
    """Return the logical cores of workers, learners, evaluator, and replays that stand apart."""
    return planned_workers(config) + other_cores(config)
