"""The doors between the rooms, as protocols: lanes, unroll sink, batch source, weights, learner,
metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from repertory.metrics.gradient_maps import CosineSums
from repertory.types import (
    EnvironmentFault,
    EpisodeRecord,
    ReplayBatch,
    StepResult,
    Unroll,
    Weights,
)

State = dict[str, Any]
"""A part's state for a checkpoint: nested dicts and lists of numpy arrays, str, int, float, bool
and None.
String keys only. `repertory.checkpoint` writes it without pickle."""


@runtime_checkable
class Lanes(Protocol):
    """L environments of one worker, stepped together; lane l plays task `task[l]`."""

    task: np.ndarray

    def reset(self) -> np.ndarray:
        """Start every lane and return the first observations, shape [L, *shape]."""

    def step(self, action: np.ndarray) -> StepResult:
        """Step every lane. The arrays of the result are valid until the next call."""

    def state(self) -> State:
        """Everything needed to go on bit for bit, emulator and random state included."""

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""

    def close(self) -> None:
        """Free what the lanes hold."""


@runtime_checkable
class UnrollSink(Protocol):
    """Where workers deliver."""

    def insert(self, unroll: Unroll) -> None:
        """Take one unroll; what does not fit is dropped and counted."""

    def has_room(self) -> bool:
        """Whether another unroll is wanted now (the back-pressure signal)."""


Batch = Unroll | ReplayBatch
"""What one update learns from: columns of unrolls, or replayed steps."""


@runtime_checkable
class BatchSource(Protocol):
    """Where learners take from."""

    def next_batch(self, timeout_s: float | None = None) -> Batch | None:
        """Return a batch, rows of every task in their share, or None when none came in time."""


@runtime_checkable
class Experience(UnrollSink, BatchSource, Protocol):
    """What lies between actors and learner: trajectory queues or replay. Safe from any thread."""

    @property
    def steps(self) -> int:
        """Valid agent steps received, over all tasks."""

    def published(self, weights: Weights) -> None:
        """Note what actors act with from now on: its version, and which tasks are guided."""

    def drain_episodes(self) -> list[EpisodeRecord]:
        """Return the episodes that finished since the last call."""

    def drain_faults(self) -> list[EnvironmentFault]:
        """Return the failures of environments that were contained, since the last call."""

    def metrics(self) -> dict[str, float]:
        """Return fill, drops and ages, per task and in all."""

    def guide_counts(self) -> Int64[np.ndarray, "M C"] | None:
        """Return the valid steps of task i in which candidate j acted, since the last call.

        None where tasks cannot be guided.
        """

    def state(self, *, contents: bool) -> State:
        """Return counters and positions, and with `contents` everything that is held."""

    def restore(self, state: State) -> None:
        """Take up a state; contents only if they were saved."""

    def close(self) -> None:
        """Wake every waiting thread."""


@runtime_checkable
class WeightSource(Protocol):
    """Where actors pull from."""

    def newer_than(self, version: int) -> Weights | None:
        """Return the newest weights if they are newer than `version`."""


@runtime_checkable
class Learner(Protocol):
    """One update rule and all the state it owns."""

    @property
    def version(self) -> int:
        """The version that `weights()` is stamped with."""

    def update(self, batch: Any, progress: float) -> None:
        """Learn from one batch; `progress` in [0, 1] is the share of the budget spent (for
        schedules).
        """

    def weights(self) -> Weights:
        """Return what actors need, stamped with the version."""

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call, under their full names; the only device
        synchronisation.
        """

    def cosines(self) -> list[CosineSums]:
        """Return the cosines between the tasks' gradients measured since the last call."""

    def state(self) -> State:
        """Return networks, optimiser, statistics, counters and random states."""

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""


@runtime_checkable
class MetricSink(Protocol):
    """One place that metrics go to. Never blocks for long and never ends a run."""

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Write one row; keys are metric names, x-axes among them."""

    def close(self) -> None:
        """Flush."""
