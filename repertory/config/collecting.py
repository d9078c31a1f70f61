"""How experience is collected: workers, the queues and the replay between them and the learner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from repertory.config.base import (
    MemoryFormat,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Precision,
    Settings,
)


class ActorConfig(Settings):
    """Rollout workers."""

    count: Positive | Literal["all"] = 2
    """Worker processes, one per core; all: one on every core that learner, evaluator and replay
    leave free, on this machine or in the cluster that the run joins. There workers come and go with
    the nodes, and tasks keep equal parts of their lanes.
    """
    lanes: Positive = 32
    """Environments per worker, stepped together with one batched policy call."""
    groups: Annotated[int, Field(ge=1, le=2)] = 1
    """2: the policy runs on one half of the lanes while the other half steps."""
    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    max_outstanding: Annotated[int, Field(ge=1, le=8)] = 2
    """Unrolls a worker may have sent that are not yet acknowledged."""
    version_delay: Annotated[int, Field(ge=0, le=1000)] = 0
    """Act with weights so many versions older than the newest, to study policy lag."""
    timeout_s: PositiveFloat = 60.0
    """A worker that is not held back and delivers nothing for so long is killed and replaced."""
    max_restarts: NonNegative = 100
    """Replacements of one worker before the run ends; those for want of memory count for an
    hour.
    """
    nodes_wait_s: NonNegativeFloat = 0.0
    """How long a run that joins a cluster waits for nodes with cores enough for all its parts (with
    `count` all, for one worker of each learner); then it begins with those that are there, and the
    other workers start when nodes join.
    """
    environment_failures: NonNegative = 5
    """Failures of one task's environments within `failure_window_s` that a worker survives; at the
    next one it gives the task up. 0: the first failure ends the run.
    """
    failure_window_s: PositiveFloat = 600.0
    """Failures longer ago are forgotten."""


class QueueConfig(Settings):
    """Per-task trajectory queues between actors and learner."""

    capacity_batches: PositiveFloat = 2.0
    """Each task's queue holds so many times its share of a batch (at least its lanes, twice)."""
    max_policy_lag: Positive = 50
    """Unrolls acted with weights more than so many versions old are dropped and counted."""
    patience_s: NonNegativeFloat = 3.0
    """A task that delivers nothing for so long is left out of a batch, and the gap counted; from
    then on batches take what it has and wait no more, until its queue is full again (cluster only).
    """


class ReplayConfig(Settings):
    """Per-task replay between actors and off-policy learners."""

    capacity: Positive = 1_000_000
    """Steps kept, over all tasks in equal parts; the oldest go first."""
    samples_per_insert: PositiveFloat = 128.0
    """Steps replayed per step inserted. CTPG's published ratio, one update of 128 steps per task
    for one step of every task, is 128.
    """
    slack: PositiveFloat = 16.0
    """Updates by which actors may run ahead of that ratio before they are held back."""
    saved: bool = False
    """Put the contents into every checkpoint, so that a resumed run samples what it would have."""
    place: Literal["learner", "process"] = "learner"
    """Whether the replay lives in the learner's process or in one of its own (cluster only)."""
