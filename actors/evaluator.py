"""Plays whole episodes with fixed seeds and reports raw returns per task: training never waits for
it.

Axes: L slots that play at once, L' of them active.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from actors.policy import Policy
from actors.stacking import RollingStack
from repertory.ports import Lanes
from repertory.types import EpisodeRecord, TaskSpec

MakeLane = Callable[[int, int], Lanes]
"""(position in the tasks, episode) -> one freshly seeded lane of that task."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Raw results of one task under one policy."""

    task: str
    policy: str
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...]
    """Empty where the task has no notion of success."""
    cut: int
    """Episodes that reached the step limit and count as they stood."""

    @property
    def mean(self) -> float:
        """Mean raw return."""
        return float(np.mean(self.returns))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; NaN for one episode."""
        count = len(self.returns)
        return float(np.std(self.returns, ddof=1) / np.sqrt(count)) if count > 1 else float("nan")


@dataclass(slots=True)
class _Slot:
    """One episode being played."""

    position: int
    """Of its task in the list that is evaluated; what the network is told is the task's index."""
    lanes: Lanes
    stack: RollingStack
    recurrent: np.ndarray
    started: bool = True
    steps: int = 0
    shown_return: float = 0.0


def play_episodes(
    policy: Policy,
    tasks: Sequence[TaskSpec],
    make_lane: MakeLane,
    *,
    episodes: int,
    slots: int,
    max_steps: int,
    policy_name: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TaskScore]:
    """Play `episodes` episodes of every task, `slots` at a time, each with a seed of its own.

    An episode that reaches `max_steps` agent steps is cut and counts with the (possibly clipped)
    return shown so far: a greedy policy can otherwise play for ever. Returns one score per task, in
    order; an empty list when told to stop.
    """
    waiting = deque((position, e) for e in range(episodes) for position in range(len(tasks)))
    results: list[list[EpisodeRecord]] = [[] for _ in tasks]
    spec = tasks[0].observation
    playing: list[_Slot] = []
    while waiting or playing:
        if should_stop():
            for slot in playing:
                slot.lanes.close()
            return []
        while waiting and len(playing) < slots:
            position, episode = waiting.popleft()
            lanes = make_lane(position, episode)
            stack = RollingStack(spec, 1)
            stack.push(lanes.reset(), np.ones(1, np.bool_))
            recurrent = np.zeros((1, policy.recurrent_size), np.float32)
            playing.append(_Slot(position, lanes, stack, recurrent))
        decision = policy.act(
            np.concatenate([slot.stack.network_input for slot in playing]),
            np.array([tasks[slot.position].index for slot in playing], np.int32),
            np.concatenate([slot.recurrent for slot in playing]),
            np.array([slot.started for slot in playing]),
        )
        still_playing = []
        for row, slot in enumerate(playing):
            record = _advance(slot, decision.action[row : row + 1], max_steps)
            slot.recurrent = decision.recurrent[row : row + 1]
            if record is None:
                still_playing.append(slot)
            else:
                results[slot.position].append(record)
                slot.lanes.close()
        playing = still_playing
    return [
        _score(task, policy_name, records, max_steps)
        for task, records in zip(tasks, results, strict=True)
    ]


def _advance(slot: _Slot, action: np.ndarray, max_steps: int) -> EpisodeRecord | None:
    result = slot.lanes.step(action)
    slot.steps += 1
    slot.shown_return += float(result.reward[0])
    slot.stack.push(result.observation, result.started)
    slot.started = bool(result.started[0])
    if result.episodes:
        return result.episodes[0]
    if slot.steps >= max_steps:
        return EpisodeRecord(slot.position, slot.shown_return, slot.steps, truncated=True)
    return None


def _score(
    task: TaskSpec, policy_name: str, records: Sequence[EpisodeRecord], max_steps: int
) -> TaskScore:
    return TaskScore(
        task=task.name,
        policy=policy_name,
        returns=tuple(r.raw_return for r in records),
        lengths=tuple(r.length for r in records),
        successes=tuple(r.success for r in records if r.success is not None),
        cut=sum(r.truncated and r.length >= max_steps for r in records),
    )
