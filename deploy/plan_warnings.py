"""What is allowed and probably not meant: sentences that a run's plan comes with."""

from __future__ import annotations

import math

from deploy import mask_plan, several_learners
from deploy.build import is_off_policy
from deploy.worker_numbers import cores_of_this_machine, follows_cluster, planned_workers
from repertory.config import RunConfig, SacConfig, Td3Config
from repertory.types import TaskSpec


def warnings(
    config: RunConfig,
    tasks: tuple[TaskSpec, ...],
    lanes: tuple[int, ...],
    held_out: tuple[str, ...],
) -> tuple[str, ...]:
    """Return a sentence for each; `lanes` are those of every task."""
    return (
        *_uneven_lanes(config, tasks, lanes),
        *_unplayed(config, lanes),
        *_long_lag(config),
        *_nobody_to_guide(config, len(tasks)),
        *mask_plan.warnings(config, len(tasks)),
        *_few_cores(config),
        *_indistinct(config, len(tasks)),
        *_no_success(config),
        *_nothing_held_out(config, held_out),
    )


def _uneven_lanes(
    config: RunConfig, tasks: tuple[TaskSpec, ...], lanes: tuple[int, ...]
) -> list[str]:
    fewest, most = min(lanes), max(lanes)
    even = -(-config.actors.lanes // len(lanes)) * len(lanes)
    if follows_cluster(config):
        if config.actors.lanes == even:
            return []
        return [
            f"actors.count all: {config.actors.lanes} lanes of each worker divide evenly over "
            f"{len(lanes)} tasks with few numbers of workers only (batches still take equal "
            f"shares); actors.lanes {even} is even with any"
        ]
    if fewest == most:
        return []
    more = [task.name for task, count in zip(tasks, lanes, strict=True) if count == most]
    named = ", ".join(more[:3]) + (f" and {len(more) - 3} others" if len(more) > 3 else "")
    return [
        f"{sum(lanes)} lanes do not divide evenly over {len(lanes)} tasks: {named} get {most} "
        f"lanes each, the rest {fewest} (batches still take equal shares); actors.lanes "
        f"{even} would be even"
    ]


def _unplayed(config: RunConfig, lanes: tuple[int, ...]) -> list[str]:
    """Warn of tasks that nobody plays before the cluster gives the run more workers."""
    if min(lanes) or not follows_cluster(config):
        return []
    wanted = -(-len(lanes) // config.actors.lanes)
    return [
        f"actors.count all: {len(lanes)} tasks are all played from {wanted} workers"
        f"{' of each learner' if config.learner.count > 1 else ''} on, with "
        f"{config.actors.lanes} lanes each; actors.lanes {len(lanes)} would do with one"
    ]


def _long_lag(config: RunConfig) -> list[str]:
    if is_off_policy(config):
        return []
    one = config.actors.lanes * config.actors.max_outstanding
    if follows_cluster(config):
        # Learners share batch and workers alike, so that both are those of the whole run.
        spare = config.queue.max_policy_lag - config.queue.capacity_batches
        most = math.floor(spare * config.learner.batch_size / one)
        return [
            f"actors.count all: with more than {max(0, most)} workers unrolls can be older than "
            f"queue.max_policy_lag {config.queue.max_policy_lag}, and such are dropped: raise it "
            "or learner.batch_size for more"
        ]
    config = several_learners.share_of(config, 0)
    in_flight = planned_workers(config) * one
    lag = config.queue.capacity_batches + in_flight / config.learner.batch_size
    if lag <= config.queue.max_policy_lag:
        return []
    return [
        f"unrolls can be {lag:.0f} updates old when they are learned from, and those older than "
        f"queue.max_policy_lag {config.queue.max_policy_lag} are dropped: raise it or "
        "learner.batch_size, or lower actors.lanes"
    ]


def _nobody_to_guide(config: RunConfig, tasks: int) -> list[str]:
    algorithm = config.algorithm
    if tasks > 1 or not isinstance(algorithm, SacConfig | Td3Config):
        return []
    guide = algorithm.guide
    if guide.kind == "none" or guide.experts:
        return []
    return [
        f"algorithm.guide.kind {guide.kind} lends the policies of other tasks, and this run has "
        "one task: it costs time and changes nothing"
    ]


def _few_cores(config: RunConfig) -> list[str]:
    cores, workers = cores_of_this_machine(), planned_workers(config)
    # With `all` there are as few as can be.
    alone = config.runtime == "local" or config.address or config.actors.count == "all"
    if alone or workers <= cores:
        return []
    return [
        f"{workers} actors share the {cores} cores of this machine; "
        f"actors.count {cores} is faster, or join a cluster with --address"
    ]


def _indistinct(config: RunConfig, tasks: int) -> list[str]:
    network = config.network
    told = network.conditioning != "none" or network.heads == "per_task"
    if not is_off_policy(config) or tasks == 1 or told:
        return []
    return [
        f"the network is not told which of the {tasks} tasks it plays, so all have one policy: "
        "use --network.conditioning one_hot or --network.heads per_task"
    ]


def _no_success(config: RunConfig) -> list[str]:
    algorithm = config.algorithm
    if not isinstance(algorithm, SacConfig | Td3Config) or algorithm.guide.kind != "ctpg":
        return []
    if algorithm.guide.block != "success" or config.environment.suite != "halfcheetah":
        return []
    return [
        "algorithm.guide.block success blocks nothing here: HalfCheetah's tasks know no success"
    ]


def _nothing_held_out(config: RunConfig, held_out: tuple[str, ...]) -> list[str]:
    """Warn where no unseen task is played; fine-tuned runs have the setting from their parents."""
    if held_out or not config.evaluation.held_out or config.initial.parent:
        return []
    return ["evaluation.held_out plays no further task: this run holds none out (--held_out)"]
