"""The replay beside a slow twin of plain lists; unrolls are lost, doubled, overtaken, replaced."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import pytest
from replay_play import made_up, replay_of, tasks

from repertory.types import Unroll
from replay.task_replay import TaskReplay

SLOTS, WINDOW = 12, 4


class Step(NamedTuple):
    """One transition of the twin."""

    before: list[float]
    action: float
    reward: float
    after: list[float]
    terminated: bool
    truncated: bool
    guide: int
    version: int


class Twin:
    """What a replay holds, written as the rules say it."""

    def __init__(self, count: int) -> None:
        self.rings: list[deque[list[Step]]] = [deque(maxlen=SLOTS) for _ in range(count)]
        self.open: dict[tuple[int, int], list[Step]] = {}
        self.last: dict[int, tuple[int, int]] = {}
        self.taken: set[tuple[int, int, int]] = set()
        self.tasks: dict[int, list[int]] = {}
        self.steps = 0

    def close(self, worker: int, lane: int) -> None:
        steps = self.open.pop((worker, lane), [])
        if steps:
            self.rings[self.tasks[worker][lane]].append(steps)

    def insert(self, unroll: Unroll) -> None:
        worker, lanes = unroll.worker, unroll.lanes
        now = (unroll.incarnation, unroll.sequence)
        incarnation, sequence = self.last.get(worker, (unroll.incarnation, unroll.sequence - 1))
        if (worker, *now) in self.taken or unroll.incarnation < incarnation:
            return
        self.taken.add((worker, *now))
        if now != (incarnation, sequence + 1):
            for lane in range(lanes):
                self.close(worker, lane)
        self.last[worker] = now
        self.tasks[worker] = unroll.task.tolist()
        # Step by step and not lane by lane: windows enter their ring in the order they close.
        for t in range(unroll.length):
            for lane in range(lanes):
                if unroll.decision[t, lane] or not unroll.valid[t, lane]:
                    self.close(worker, lane)
            for lane in range(lanes):
                if unroll.valid[t, lane]:
                    self._play(unroll, t, lane)

    def _play(self, unroll: Unroll, t: int, lane: int) -> None:
        self.steps += 1
        step = Step(
            unroll.observation[t, lane].tolist(),
            float(unroll.action[t, lane, 0]),
            float(unroll.reward[t, lane]),
            unroll.observation[t + 1, lane].tolist(),
            bool(unroll.terminated[t, lane]),
            bool(unroll.truncated[t, lane]),
            int(unroll.guide[t, lane]),
            int(unroll.policy_version[lane]),
        )
        window = self.open.setdefault((unroll.worker, lane), [])
        window.append(step)
        # A window that the next step opens anew is known to be closed only when that step comes.
        ends_here = t + 1 < unroll.length and bool(unroll.decision[t + 1, lane])
        if len(window) == WINDOW or step.terminated or step.truncated or ends_here:
            self.close(unroll.worker, lane)


def stream_of(worker: int, lanes: list[int], count: int, seed: int) -> list[Unroll]:
    """Return the consecutive unrolls of a worker, with ends, cuts, resets and decisions."""
    random = np.random.default_rng([seed, worker])
    unrolls, over = [], np.zeros(len(lanes), np.bool_)
    steps = int(random.integers(1, 11))
    incarnation, sequence = 0, 0
    for _ in range(count):
        if random.random() < 0.06:
            incarnation, over = incarnation + 1, np.zeros(len(lanes), np.bool_)
            sequence = 0 if random.random() < 0.5 else sequence
        sequence += 1
        shape = (steps, len(lanes))
        ended = random.random(shape) < 0.12
        cut = random.random(shape) < 0.5
        valid = np.ones(shape, np.bool_)
        for t in range(steps):
            valid[t] = ~over
            ended[t] &= valid[t]
            # Mostly: a life's end is an end that no reset follows.
            over = ended[t] & (random.random(len(lanes)) < 0.7)
        guide = random.integers(0, 5, shape).astype(np.int32)
        unrolls.append(
            made_up(
                lanes,
                worker=worker,
                incarnation=incarnation,
                sequence=sequence,
                steps=steps,
                valid=valid,
                terminated=ended & ~cut,
                truncated=ended & cut,
                decision=valid & (random.random(shape) < 0.15),
                guide=guide,
                policy_version=np.full(len(lanes), len(unrolls), np.int64),
            )
        )
    return unrolls


def disturbed(unrolls: list[Unroll], random: np.random.Generator) -> list[Unroll]:
    """Lose some, deliver some twice, and let some overtake."""
    arriving: list[Unroll] = []
    for unroll in unrolls:
        if random.random() > 0.1:
            arriving.append(unroll)
        if arriving and random.random() < 0.1:
            arriving.append(arriving[int(random.integers(len(arriving)))])
        if len(arriving) > 1 and random.random() < 0.1:
            arriving[-1], arriving[-2] = arriving[-2], arriving[-1]
    return arriving


def held(source: TaskReplay, name: str) -> list[list[Step]]:
    """Return a task's windows, oldest first, in the twin's form."""
    ring = source.state(contents=True)["rings"][name]
    count = len(ring["length"])
    first = int(ring["put_count"]) % SLOTS if count == SLOTS else 0
    return [window_at(ring, (first + i) % count) for i in range(count)]


def window_at(ring: dict[str, Any], slot: int) -> list[Step]:
    length = int(ring["length"][slot])
    return [
        Step(
            ring["observation"][slot, k].tolist(),
            float(ring["action"][slot, k, 0]),
            float(ring["reward"][slot, k]),
            ring["observation"][slot, k + 1].tolist(),
            bool(ring["terminated"][slot]) and k == length - 1,
            bool(ring["truncated"][slot]) and k == length - 1,
            int(ring["guide"][slot]),
            int(ring["policy_version"][slot]),
        )
        for k in range(length)
    ]


def with_first(window: list[Step]) -> list[Step]:
    """A window tells the guide and the version of its first step only."""
    return [s._replace(guide=window[0].guide, version=window[0].version) for s in window]


@pytest.mark.parametrize("seed", range(12))
def test_the_replay_holds_what_plain_lists_hold(seed: int) -> None:
    random = np.random.default_rng(seed)
    specs = tasks(3)
    source = replay_of(specs, capacity=3 * SLOTS * WINDOW, window=WINDOW)
    twin = Twin(3)
    assignments = [[0, 1, 2, 1], [2], [0, 0, 1]]
    coming = [
        disturbed(stream_of(worker, lanes, 40, seed), random)
        for worker, lanes in enumerate(assignments)
    ]
    while any(coming):
        queue = coming[int(random.integers(3))]
        if not queue:
            continue
        unroll = queue.pop(0)
        source.insert(unroll)
        twin.insert(unroll)
        if random.random() < 0.1:
            # Going through a checkpoint changes nothing.
            state = source.state(contents=True)
            source = replay_of(specs, capacity=3 * SLOTS * WINDOW, window=WINDOW)
            source.restore(state)
        for task, spec in enumerate(specs):
            expected = [with_first(window) for window in twin.rings[task]]
            assert held(source, spec.name) == expected
        metrics = source.metrics()
        assert metrics["replay/rows_open"] == sum(map(len, twin.open.values()))
        assert source.steps == twin.steps
        for task, spec in enumerate(specs):
            rows = sum(map(len, twin.rings[task]))
            assert metrics[f"task/{spec.name}/replay_rows"] == rows
    played = {
        (*step.before, step.action, step.reward, *step.after, step.terminated, step.truncated)
        for ring in twin.rings
        for window in ring
        for step in window
    }
    for _ in range(200):
        batch = source.next_batch(0.0)
        assert batch is not None
        fields = (
            batch.observation,
            batch.action,
            batch.reward[:, None],
            batch.next_observation,
            batch.terminated[:, None],
            batch.truncated[:, None],
        )
        # Equal numbers are equal keys, whether truth values or floats.
        assert {tuple(row) for row in np.concatenate(fields, axis=1).tolist()} <= played
        windows = batch.windows
        assert windows is not None
        for w, length in enumerate(windows.length.tolist()):
            step = tuple(
                windows.observation[0, w].tolist()
                + windows.action[0, w].tolist()
                + [float(windows.reward[0, w])]
                + windows.observation[1, w].tolist()
                + [bool(windows.terminated[w]) and length == 1]
                + [bool(windows.truncated[w]) and length == 1]
            )
            assert step in played
