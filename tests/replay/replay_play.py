"""Unrolls for the tests of the replay: played in the counting environment, and made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from actors.policy import RandomPolicy
from actors.unroller import Unroller
from envs.registry import make_lanes, task_specs
from repertory.config import CountingConfig
from repertory.seeding import stream
from repertory.types import ReplayBatch, TaskSpec, Unroll
from replay.task_replay import TaskReplay

NAMES = ("counting/0", "counting/1", "counting/2")
SETTINGS = CountingConfig(continuous=True, actions=1)


def tasks(count: int = 3) -> tuple[TaskSpec, ...]:
    """Return counting tasks whose actions are a box of one number."""
    return task_specs(NAMES[:count], SETTINGS, 0.99)


def replay_of(specs: tuple[TaskSpec, ...], **replaced: Any) -> TaskReplay:
    """Return a small, poisoned replay that is always willing to give a batch."""
    settings: dict[str, Any] = {
        "capacity": 3000,
        "batch_size": 4 * len(specs),
        "window": 4,
        "windows_every": 1,
        "window_batch": 4 * len(specs),
        "learning_starts": 1,
        "samples_per_insert": 1e6,
        "slack": 4.0,
        "generator": stream(1, "replay"),
        "poison": True,
    }
    return TaskReplay(specs, **{**settings, **replaced})


class Player:
    """A worker in the counting environment whose actions tell at which step they were played."""

    def __init__(
        self, lanes: list[int], *, worker: int = 0, incarnation: int = 0, length: int = 5
    ) -> None:
        specs = tasks()
        made = make_lanes(SETTINGS, specs, lanes, seed=1, path=("player", worker))
        policy = RandomPolicy(specs[0].action, stream(1, "policy", worker))
        self._unroller = Unroller(
            [(made, policy)], specs, length=length, worker=worker, incarnation=incarnation
        )

    def play(self, *, decide_every: int = 0, version: int = 0) -> Unroll:
        """Play on; with `decide_every` a guide is chosen at every n-th step of an episode."""
        unroll = self._unroller.unroll()
        _, episode, step = np.moveaxis(unroll.observation[:-1], -1, 0)
        decision = np.zeros_like(unroll.valid)
        if decide_every:
            decision = unroll.valid & (step % decide_every == 0)
        return replace(
            unroll,
            action=(episode * 100 + step)[..., None].astype(np.float32),
            decision=decision,
            policy_version=np.full(unroll.lanes, version, np.int64),
        )


def made_up(
    lane_tasks: list[int],
    *,
    steps: int = 4,
    sequence: int = 1,
    worker: int = 0,
    incarnation: int = 0,
    **replaced: Any,
) -> Unroll:
    """Return an unroll of an endless episode; numbers tell (worker, sequence, lane, step)."""
    lanes = len(lane_tasks)
    stamp = worker * 1e6 + (sequence - 1) * steps + np.arange(steps + 1)[:, None] + 1.0
    stamp = np.broadcast_to(stamp + np.arange(lanes) * 1e4, (steps + 1, lanes))
    none = np.zeros((steps, lanes), np.bool_)
    fields: dict[str, Any] = {
        "worker": worker,
        "incarnation": incarnation,
        "sequence": sequence,
        "task": np.array(lane_tasks, np.int32),
        "policy_version": np.zeros(lanes, np.int64),
        "observation": np.stack(
            [np.broadcast_to(lane_tasks, stamp.shape), stamp, -stamp], -1
        ).astype(np.float32),
        "age": np.zeros((steps + 1, lanes), np.uint8),
        "action": stamp[:-1, :, None].astype(np.float32),
        "reward": stamp[:-1].astype(np.float32),
        "terminated": none,
        "truncated": none,
        "valid": ~none,
        "behaviour_log_probability": np.zeros((steps, lanes), np.float32),
        "guide": np.tile(np.array(lane_tasks, np.int32), (steps, 1)),
        "decision": none,
        "recurrent": np.zeros((lanes, 0), np.float32),
    }
    return Unroll(**{**fields, **replaced})


def drained(source: TaskReplay) -> int:
    """Take every batch that is due and return their number."""
    count = 0
    while source.next_batch(0.0) is not None:
        count += 1
    return count


def assert_equal_batches(one: ReplayBatch | None, other: ReplayBatch | None) -> None:
    """Compare two batches to the bit, windows included."""
    assert one is not None
    assert other is not None
    for name in ReplayBatch.__dataclass_fields__:
        if name != "windows":
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert (one.windows is None) == (other.windows is None)
    if one.windows is not None and other.windows is not None:
        for name in type(one.windows).__dataclass_fields__:
            mine, theirs = getattr(one.windows, name), getattr(other.windows, name)
            np.testing.assert_array_equal(mine, theirs, name)
