"""Builds the parts of a run from its `RunConfig`; both runtimes call these and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deploy.worker_numbers import planned_workers
from envs.contained import ContainedLanes, FailureBudget
from envs.registry import make_lanes, task_specs, training_tasks
from repertory.config import (
    GuideConfig,
    PpoConfig,
    RunConfig,
    SacConfig,
    Td3Config,
    VTraceConfig,
)
from repertory.seeding import integer, stream
from repertory.types import TaskSpec

if TYPE_CHECKING:
    from actors.policy import Policy
    from actors.worker import RolloutWorker
    from deploy.finetuning.transplant import InitialWeights
    from learner.parallel.exchange import Exchange
    from repertory.networks.actor_critic import ActorCritic
    from repertory.networks.control_agent import ControlAgent
    from repertory.ports import Experience, Lanes, Learner, WeightSource
    from replay.task_replay import TaskReplay
    from replay.trajectory_queues import TrajectoryQueues

ExpertArrays = Sequence[tuple[str, Mapping[str, np.ndarray]]]
"""Each expert's name with the arrays of its actor, in the order of the run's experts."""


def tasks_of(config: RunConfig) -> tuple[TaskSpec, ...]:
    """Return the tasks that the run trains on, in the order that fixes their index."""
    return task_specs(training_tasks(config), config.environment, config.algorithm.discount)


def assignment(config: RunConfig, task_count: int, worker: int) -> tuple[int, ...]:
    """Return the task of each lane of a worker: lanes of a learner's workers are dealt in turn."""
    first = worker // config.learner.count * config.actors.lanes
    return tuple((first + lane) % task_count for lane in range(config.actors.lanes))


def lanes_per_task(config: RunConfig, task_count: int) -> tuple[int, ...]:
    """Return how many lanes each task has over all workers."""
    counts = [0] * task_count
    for worker in range(planned_workers(config)):
        for task in assignment(config, task_count, worker):
            counts[task] += 1
    return tuple(counts)


def experience(config: RunConfig, tasks: Sequence[TaskSpec]) -> Experience:
    """Build what lies between actors and learner: queues on policy, replay off policy."""
    if is_off_policy(config):
        return task_replay(config, tasks)
    return trajectory_queues(config, tasks)


def is_off_policy(config: RunConfig) -> bool:
    """Whether the run learns from replay."""
    return isinstance(config.algorithm, SacConfig | Td3Config)


def guide_of(config: RunConfig) -> GuideConfig | None:
    """Return the guide's settings; None where every task acts for itself."""
    algorithm = config.algorithm
    if not isinstance(algorithm, SacConfig | Td3Config) or algorithm.guide.kind == "none":
        return None
    return algorithm.guide


def saves_contents(config: RunConfig) -> bool:
    """Whether checkpoints hold what lies between actors and learner, and not only its counters.

    Queues on the cluster are not worth it: their unrolls would be stale after a resume.
    """
    return config.replay.saved if is_off_policy(config) else config.runtime == "local"


def task_replay(config: RunConfig, tasks: Sequence[TaskSpec]) -> TaskReplay:
    """Build the replay of an off-policy run."""
    from replay.task_replay import TaskReplay

    algorithm = config.algorithm
    if not isinstance(algorithm, SacConfig | Td3Config):
        raise ValueError(f"only sac and td3 learn from replay, not {algorithm.kind}")
    guide = algorithm.guide
    return TaskReplay(
        tasks,
        capacity=config.replay.capacity,
        batch_size=config.learner.batch_size,
        window=guide.step,
        windows_every=guide.step if guide.kind == "ctpg" else 0,
        window_batch=config.learner.batch_size,
        learning_starts=algorithm.exploration_steps,
        samples_per_insert=config.replay.samples_per_insert,
        slack=config.replay.slack,
        generator=stream(config.seed, "replay"),
    )


def trajectory_queues(config: RunConfig, tasks: Sequence[TaskSpec]) -> TrajectoryQueues:
    """Build the queues between actors and learner."""
    from replay.trajectory_queues import TrajectoryQueues

    share = math.ceil(config.learner.batch_size / len(tasks))
    target = max(1, math.ceil(share * config.queue.capacity_batches))
    # Above the target nothing more is asked for, but what is under way must still fit: that of
    # workers known here, and the queues see to that of others, which come as a cluster grows.
    under_way = [
        config.actors.max_outstanding * lanes for lanes in lanes_per_task(config, len(tasks))
    ]
    return TrajectoryQueues(
        tasks,
        batch_size=config.learner.batch_size,
        targets=[target] * len(tasks),
        bounds=[target + lanes for lanes in under_way],
        max_policy_lag=config.queue.max_policy_lag,
        patience_s=config.queue.patience_s if config.runtime == "cluster" else None,
        max_outstanding=config.actors.max_outstanding,
    )


def network(config: RunConfig, tasks: Sequence[TaskSpec]) -> ActorCritic:
    """Build the network with its seeded initial weights."""
    from repertory.networks.actor_critic import build_network

    return build_network(tasks, config.network, seed=integer(config.seed, "network"))


def control_agent(
    config: RunConfig, tasks: Sequence[TaskSpec], experts: ExpertArrays = ()
) -> ControlAgent:
    """Build what off-policy actors act with, with its seeded initial weights.

    Experts' weights are in `experts`, or NaN where a checkpoint or a publication will bring them.
    """
    from repertory.networks.control_agent import build_agent
    from repertory.networks.experts import load_expert

    agent = build_agent(tasks, config, seed=integer(config.seed, "network"))
    for actor, (name, arrays) in zip(agent.experts.networks, experts, strict=bool(experts)):
        load_expert(actor, arrays, name)
    return agent


def learner(
    config: RunConfig,
    tasks: Sequence[TaskSpec],
    experts: ExpertArrays = (),
    initial: InitialWeights | None = None,
    exchange: Exchange | None = None,
) -> Learner:
    """Build the update rule with its network on its device; `exchange` leads to other learners.

    `experts`, and the `initial` weights of an earlier run, are given at a run's first start.
    """
    from learner.parallel.exchange import ALONE

    built = _learner_as_drawn(config, tasks, experts, exchange or ALONE)
    if initial is not None:
        from deploy.finetuning.transplant import transplanted

        built.restore(transplanted(built.state(), initial, config, tasks))
    return built


def _learner_as_drawn(
    config: RunConfig,
    tasks: Sequence[TaskSpec],
    experts: ExpertArrays,
    exchange: Exchange,
) -> Learner:
    match config.algorithm:
        case VTraceConfig():
            from learner.vtrace import VTraceLearner

            return VTraceLearner(network(config, tasks), config, tasks, exchange=exchange)
        case PpoConfig():
            from learner.ppo import PpoLearner

            return PpoLearner(network(config, tasks), config, tasks)
        case SacConfig():
            from learner.sac import SacLearner

            return SacLearner(
                control_agent(config, tasks, experts), config, tasks, exchange=exchange
            )
        case Td3Config():
            from learner.td3 import Td3Learner

            return Td3Learner(
                control_agent(config, tasks, experts), config, tasks, exchange=exchange
            )


def acting_policy(
    config: RunConfig,
    tasks: Sequence[TaskSpec],
    generator: np.random.Generator,
    *,
    greedy: bool = False,
    guided: bool = False,
) -> Policy:
    """Build a policy that acts with the run's network, in the actors' precision.

    Only rollout workers are `guided`: evaluation is always each task's own policy.
    """
    if is_off_policy(config):
        return _control_policy(config, tasks, generator, greedy=greedy, guided=guided)
    from actors.policy import NetworkPolicy
    from repertory.networks.acting import for_acting

    acting = for_acting(
        network(config, tasks), config.actors.precision, config.actors.memory_format
    )
    masks = config.masks if config.gradients.method == "harmony" else None
    return NetworkPolicy(acting, generator, greedy=greedy, masks=masks)


def _control_policy(
    config: RunConfig,
    tasks: Sequence[TaskSpec],
    generator: np.random.Generator,
    *,
    greedy: bool,
    guided: bool,
) -> Policy:
    from actors.control_policy import ControlPolicy
    from actors.guidance import guided_policy

    own = ControlPolicy(control_agent(config, tasks), config, generator, greedy=greedy)
    return guided_policy(own, config, generator) if guided else own


def rollout_worker(
    config: RunConfig,
    tasks: Sequence[TaskSpec],
    weights: WeightSource,
    *,
    worker: int,
    incarnation: int,
) -> RolloutWorker:
    """Build one worker; a replacement (a later incarnation) draws from streams of its own."""
    from actors.unroller import Unroller
    from actors.worker import RolloutWorker

    path = ("worker", worker, "incarnation", incarnation)
    budget = FailureBudget(config.actors.environment_failures, config.actors.failure_window_s)
    groups: list[tuple[Lanes, Policy]] = []
    generators = []
    for group, part in enumerate(
        np.array_split(np.array(assignment(config, len(tasks), worker)), config.actors.groups)
    ):
        lanes = make_lanes(
            config.environment,
            tasks,
            [int(task) for task in part],
            seed=config.seed,
            path=(*path, "group", group),
        )
        generator = stream(config.seed, *path, "policy", group)
        generators.append(generator)
        contained = ContainedLanes(lanes, tasks, budget)
        groups.append((contained, acting_policy(config, tasks, generator, guided=True)))
    unroller = Unroller(
        groups,
        tasks,
        length=config.learner.unroll_length,
        worker=worker,
        incarnation=incarnation,
    )
    return RolloutWorker(unroller, weights, generators)
