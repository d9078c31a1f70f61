"""Everything about a run that can be wrong is found here, before a process starts."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import psutil

from deploy import address, mask_plan, placement, plan_warnings, several_learners
from deploy.build import is_off_policy, lanes_per_task
from deploy.evaluation_lanes import specs_like_training
from deploy.worker_numbers import follows_cluster, planned_workers
from envs.registry import held_out_tasks, task_specs, training_tasks
from repertory.config import RunConfig, SacConfig, Td3Config
from repertory.config.gradients import missing_sentence
from repertory.errors import BadInput
from repertory.types import TaskSpec

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will consist of."""

    tasks: tuple[TaskSpec, ...]
    held_out: tuple[str, ...]
    lanes_per_task: tuple[int, ...]
    parts: tuple[placement.Part, ...]
    memory: int
    """Bytes of all parts together, an estimate."""
    warnings: tuple[str, ...]


def check(config: RunConfig, *, probe_cluster: bool = True) -> Plan:
    """Return the plan of a run, or raise what is wrong with it.

    Raises:
        BadInput: an unknown task, or settings that cannot work together or on this machine.
        ClusterFailure: nothing answers at the cluster's address.
    """
    _check_combinations(config)
    several_learners.check(config)
    tasks = task_specs(training_tasks(config), config.environment, config.algorithm.discount)
    held_out = held_out_tasks(config)
    if config.evaluation.held_out:
        _check_held_out(config, held_out, tasks)
    _check_network(config, tasks)
    _check_gradients(config, tasks)
    mask_plan.check(config, len(tasks))
    _check_shares(config, tasks)
    _check_device(config)
    lanes = lanes_per_task(config, len(tasks))
    parts = placement.parts(config, tasks)
    memory = placement.memory(parts)
    if not config.address:
        _check_memory(config, memory)
    warnings = plan_warnings.warnings(config, tasks, lanes, held_out)
    if config.address and probe_cluster:
        address.probe(config.address)
    return Plan(tasks, held_out, lanes, parts, memory, warnings)


def _check_held_out(
    config: RunConfig, held_out: tuple[str, ...], tasks: tuple[TaskSpec, ...]
) -> None:
    """Find out now what the first evaluation would: a network that cannot play what is unseen."""
    try:
        specs_like_training(config, held_out, tasks)
    except BadInput as error:
        raise BadInput(f"evaluation.held_out: {error}") from error


def _check_shares(config: RunConfig, tasks: tuple[TaskSpec, ...]) -> None:
    """Check what every learner must have; the last one has the fewest workers."""
    learners = config.learner.count
    share = several_learners.share_of(config, learners - 1)
    # Free cores may bring any number of workers: what those of the beginning cannot do, is told.
    numbered = not follows_cluster(config)
    try:
        if numbered:
            _check_lanes(share, len(tasks))
        if is_off_policy(share):
            _check_replay(share, tasks)
        else:
            _check_queues(share)
            if numbered:
                _check_under_way(share)
    except BadInput as error:
        if learners == 1:
            raise
        raise BadInput(f"a part of learner.count {learners} would have too little: {error}") from (
            error
        )


def _check_combinations(config: RunConfig) -> None:
    if config.runtime == "local" and config.address:
        raise BadInput(
            f"runtime local is one process and joins no cluster, but address is "
            f"'{config.address}': drop the address or use --runtime cluster"
        )
    if config.address and config.address != "auto":
        address.host_and_port(config.address)
    if config.actors.groups > config.actors.lanes:
        raise BadInput(
            f"actors.groups {config.actors.groups} needs at least as many actors.lanes, "
            f"got {config.actors.lanes}"
        )


def _check_queues(config: RunConfig) -> None:
    if config.queue.capacity_batches < 1:
        raise BadInput(
            f"queue.capacity_batches {config.queue.capacity_batches:g} holds less than a batch, "
            "which could then never be filled: make it at least 1"
        )


def _check_under_way(config: RunConfig) -> None:
    count, lanes = planned_workers(config), config.actors.lanes
    under_way = count * lanes * config.actors.max_outstanding
    if config.learner.batch_size > under_way:
        wanted = -(-config.learner.batch_size // (count * config.actors.max_outstanding))
        raise BadInput(
            f"learner.batch_size {config.learner.batch_size} is more unrolls than {count} actors x "
            f"{lanes} lanes with {config.actors.max_outstanding} outstanding each can have under "
            f"way ({under_way}): raise actors.lanes to {wanted} or lower learner.batch_size"
        )


def _check_replay(config: RunConfig, tasks: tuple[TaskSpec, ...]) -> None:
    count, batch, capacity = len(tasks), config.learner.batch_size, config.replay.capacity
    algorithm = config.algorithm
    if not isinstance(algorithm, SacConfig | Td3Config):
        return
    if batch % count:
        above = (batch // count + 1) * count
        fitting = f"{above - count} or {above}" if above > count else f"{above}"
        raise BadInput(
            f"learner.batch_size {batch} is not a multiple of the {count} tasks, which share it "
            f"equally: {fitting} would be"
        )
    if capacity < batch or capacity < count * algorithm.guide.step:
        least = max(batch, count * algorithm.guide.step)
        raise BadInput(
            f"replay.capacity {capacity} is too small for learner.batch_size {batch} and {count} "
            f"tasks with windows of {algorithm.guide.step} steps: make it at least {least}"
        )
    first = algorithm.exploration_steps * count
    if first >= config.total_steps:
        raise BadInput(
            f"algorithm.exploration_steps {algorithm.exploration_steps} for each of {count} tasks "
            f"uses up total_steps {config.total_steps}, so nothing would be learned: lower one or "
            "raise the other"
        )


def _check_network(config: RunConfig, tasks: tuple[TaskSpec, ...]) -> None:
    kind, wanted = tasks[0].action.kind, "box" if is_off_policy(config) else "discrete"
    if kind != wanted:
        words = {"box": "continuous", "discrete": "discrete"}
        fitting = "sac or td3" if kind == "box" else "vtrace or ppo"
        raise BadInput(
            f"algorithm.kind {config.algorithm.kind} plays {words[wanted]} actions, but those of "
            f"{tasks[0].name} are {words[kind]}: use --algorithm.kind {fitting}"
        )
    shape = tasks[0].observation.shape
    vectors = len(shape) == 1
    if vectors and config.network.torso != "mlp":
        raise BadInput(
            f"network.torso {config.network.torso} reads images, but observations of "
            f"{tasks[0].name} are vectors of {shape[0]}: use --network.torso mlp"
        )
    if not vectors and config.network.torso == "mlp":
        raise BadInput(
            f"network.torso mlp reads vectors, but observations of {tasks[0].name} are images: "
            "use --network.torso shallow, nature or impala"
        )


def _check_gradients(config: RunConfig, tasks: tuple[TaskSpec, ...]) -> None:
    method = config.gradients.method
    # A mask that was learned beside other tasks is worn by one alone, too.
    alone_with_mask = method == "harmony" and config.initial.loads
    if method != "mean" and len(tasks) == 1 and not alone_with_mask:
        raise BadInput(
            f"gradients.method {method} joins the gradients of several tasks, and this run has "
            f"only {tasks[0].name}: use mean"
        )
    missing = missing_sentence(method)
    # On a cluster the learner's machine may have what this one has not.
    if missing and not config.address:
        raise BadInput(missing)


def _check_lanes(config: RunConfig, tasks: int) -> None:
    count, lanes = planned_workers(config), config.actors.lanes
    total = count * lanes
    if total < tasks:
        raise BadInput(
            f"{tasks} tasks need at least {tasks} lanes; {count} actors x {lanes} lanes give "
            f"{total}: raise actors.lanes to {-(-tasks // count)}"
        )


def _check_device(config: RunConfig) -> None:
    if config.learner.compile == "on" and not compiler():
        raise BadInput(
            "learner.compile on needs a C++ compiler and none is on the PATH: install g++, or use "
            "--learner.compile auto"
        )
    if config.learner.device == "cuda" and not config.address:
        # Only whoever asks for a GPU pays for importing torch here.
        import torch

        if not torch.cuda.is_available():
            raise BadInput(
                f"learner.device is cuda, but torch {torch.__version__} finds no CUDA device: "
                "use --learner.device cpu"
            )


def compiler() -> str | None:
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else ["g++", "c++", "clang++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def _check_memory(config: RunConfig, memory: int) -> None:
    total = psutil.virtual_memory().total
    if memory > total:
        replay = f"replay.capacity ({config.replay.capacity}), " if is_off_policy(config) else ""
        raise BadInput(
            f"the run needs about {memory / GIB:.1f} GiB and this machine has {total / GIB:.1f} "
            f"GiB: lower {replay}actors.count ({config.actors.count}), actors.lanes "
            f"({config.actors.lanes}) or learner.batch_size ({config.learner.batch_size}), or join "
            "a cluster with --address"
        )
