"""How many rollout workers a run has: a number that was set, or as many as there are cores for."""

from __future__ import annotations

import os

from repertory.config import RunConfig, SacConfig, Td3Config


def follows_cluster(config: RunConfig) -> bool:
    """Whether workers come and go with the free cores of a cluster that the run joins."""
    return config.actors.count == "all" and config.runtime == "cluster" and bool(config.address)


def planned_workers(config: RunConfig) -> int:
    """Return the number of workers that a run has, or begins with where it follows a cluster.

    `actors.count all` is, on a cluster of the run's own, every core of this machine that no other
    part has; in the local runtime one, for there workers play in turn and more add nothing; in a
    cluster that is joined one for each learner, until free cores are seen there. Every learner has
    a worker, whatever cores there are.
    """
    count = config.actors.count
    if count != "all":
        return count
    if config.runtime == "local":
        return 1
    if config.address:
        return config.learner.count
    return max(config.learner.count, cores_of_this_machine() - other_cores(config))


def with_number(config: RunConfig) -> RunConfig:
    """Return the run with its number of workers, where that does not change any more."""
    if config.actors.count != "all" or follows_cluster(config):
        return config
    actors = config.actors.model_copy(update={"count": planned_workers(config)})
    return config.model_copy(update={"actors": actors})


def other_cores(config: RunConfig) -> int:
    """Return the logical cores of learners, evaluator, and replays that stand apart."""
    apart = config.replay.place == "process" and isinstance(config.algorithm, SacConfig | Td3Config)
    return 1 + config.learner.count * (1 + int(apart))


def cores_of_this_machine() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))
