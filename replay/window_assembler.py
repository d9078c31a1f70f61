"""Cuts the steps of arriving unrolls into windows of at most K steps, one lane at a time.

Axes: T steps, L lanes of an unroll; S steps of a lane's stream; W windows of K steps, K1 = K + 1,
D numbers of an observation, A actions. A window that is still open travels from unroll to unroll.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from repertory.ports import State
from repertory.types import Unroll


@dataclass(frozen=True, slots=True)
class ClosedWindows:
    """W windows that grow no more, in the order in which they closed; zero beyond their length."""

    task: Int32[np.ndarray, " W"]
    guide: Int32[np.ndarray, " W"]
    """Whose policy acted at the first step."""
    policy_version: Int64[np.ndarray, " W"]
    """The version that acted at the first step, the oldest of the window."""
    length: Int32[np.ndarray, " W"]
    terminated: Bool[np.ndarray, " W"]
    truncated: Bool[np.ndarray, " W"]
    observation: Float32[np.ndarray, "W K1 D"]
    action: Float32[np.ndarray, "W K A"]
    reward: Float32[np.ndarray, "W K"]


@dataclass(frozen=True, slots=True)
class _Steps:
    """S consecutive steps of a worker's lanes; `observation[s + 1]` is the one after step s."""

    observation: Float32[np.ndarray, "S1 L D"]
    action: Float32[np.ndarray, "S L A"]
    reward: Float32[np.ndarray, "S L"]
    guide: Int32[np.ndarray, "S L"]
    policy_version: Int64[np.ndarray, "S L"]

    def followed_by(self, later: _Steps) -> _Steps:
        """Join two stretches; the last observation of this one is the first of the later one."""
        joined = {
            name: np.concatenate([getattr(self, name), getattr(later, name)])
            for name in ("action", "reward", "guide", "policy_version")
        }
        return _Steps(
            observation=np.concatenate([self.observation[:-1], later.observation]), **joined
        )

    def last(self, count: int) -> _Steps:
        """Copy the last `count` steps and the observation after them."""
        first = len(self.reward) - count
        return _Steps(**{f.name: getattr(self, f.name)[first:].copy() for f in fields(_Steps)})


@dataclass(slots=True)
class _Stream:
    """What a worker's lanes have under way: lane l's open window is its last `open_steps[l]`."""

    incarnation: int
    sequence: int
    task: Int32[np.ndarray, " L"]
    open_steps: Int64[np.ndarray, " L"]
    steps: _Steps


class WindowAssembler:
    """Joins each lane's steps across unrolls and closes windows.

    A window closes at `window` steps, at an episode's end, before a step at which a guide decision
    was taken (He et al. 2024, section 4: such a window is what the guide learns from), and where
    the lane's stream breaks: after a lost or overtaken unroll, or with a worker's replacement.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._streams: dict[int, _Stream] = {}
        self.breaks = 0

    def add(self, unroll: Unroll) -> list[ClosedWindows]:
        """Take the next unroll of a worker and return the windows that closed.

        An unroll that does not go on where the one before stopped first closes what was open.
        """
        closed: list[ClosedWindows] = []
        stream = self._streams.get(unroll.worker)
        if stream is not None and not _goes_on(stream, unroll):
            self.breaks += 1
            closed.append(self._flushed(stream))
            stream = None
        arrived = _Steps(
            observation=unroll.observation,
            action=unroll.action,
            reward=unroll.reward,
            guide=unroll.guide,
            policy_version=np.broadcast_to(unroll.policy_version, unroll.reward.shape),
        )
        ended = (unroll.terminated | unroll.truncated) & unroll.valid
        if stream is None:
            open_steps, before = np.zeros(unroll.lanes, np.int64), 0
            steps = arrived
        else:
            open_steps, before = stream.open_steps, len(stream.steps.reward)
            steps = stream.steps.followed_by(arrived)
        row = np.arange(before + unroll.length)[:, None]
        blank = np.zeros((before, unroll.lanes), np.bool_)
        live = np.concatenate([row[:before] >= before - open_steps, unroll.valid])
        ended = np.concatenate([blank, ended])
        opens = np.concatenate([blank, unroll.decision])
        opens[0] = True
        opens[1:] |= ~live[:-1] | ended[:-1]
        opens &= live
        # Steps since the lane's stream last had to open a window, counted in windows of K.
        began = np.maximum.accumulate(np.where(opens, row, -1), axis=0)
        position = (row - began) % self._window
        closes = ended | (position == self._window - 1)
        closes[:-1] |= opens[1:] | ~live[1:]
        closes &= live

        end, lane = np.nonzero(closes)
        here = end - before
        late = np.maximum(here, 0)
        closed.append(
            self._gathered(
                steps,
                unroll.task,
                lane,
                end - position[end, lane],
                position[end, lane] + 1,
                unroll.terminated[late, lane] & (here >= 0),
                unroll.truncated[late, lane] & (here >= 0),
            )
        )
        open_steps = np.where(live[-1] & ~closes[-1], position[-1] + 1, 0)
        self._streams[unroll.worker] = _Stream(
            unroll.incarnation,
            unroll.sequence,
            unroll.task.copy(),
            open_steps,
            steps.last(int(open_steps.max(initial=0))),
        )
        return [windows for windows in closed if len(windows.task)]

    @property
    def open_steps(self) -> int:
        """Steps in windows that have not closed yet, over all workers."""
        return sum(int(stream.open_steps.sum()) for stream in self._streams.values())

    def _flushed(self, stream: _Stream) -> ClosedWindows:
        lane = np.flatnonzero(stream.open_steps)
        length = stream.open_steps[lane]
        never = np.zeros(len(lane), np.bool_)
        start = len(stream.steps.reward) - length
        return self._gathered(stream.steps, stream.task, lane, start, length, never, never)

    def _gathered(
        self,
        steps: _Steps,
        task: Int32[np.ndarray, " L"],
        lane: Int64[np.ndarray, " W"],
        start: Int64[np.ndarray, " W"],
        length: Int64[np.ndarray, " W"],
        terminated: Bool[np.ndarray, " W"],
        truncated: Bool[np.ndarray, " W"],
    ) -> ClosedWindows:
        """Copy windows out of a stream, and zeros where it goes on beyond their length."""
        offset = np.arange(self._window + 1)
        column = lane[:, None]
        row = start[:, None] + np.minimum(offset, length[:, None])
        observation = steps.observation[row, column]
        row = np.minimum(row[:, :-1], len(steps.reward) - 1)
        action, reward = steps.action[row, column], steps.reward[row, column]
        if (length < self._window).any():
            observation[offset > length[:, None]] = 0.0
            beyond = offset[:-1] >= length[:, None]
            action[beyond] = 0.0
            reward[beyond] = 0.0
        return ClosedWindows(
            task=task[lane],
            guide=steps.guide[start, lane],
            policy_version=steps.policy_version[start, lane],
            length=length.astype(np.int32),
            terminated=terminated,
            truncated=truncated,
            observation=observation,
            action=action,
            reward=reward,
        )

    def state(self) -> State:
        """Return the open windows of every worker."""
        return {
            "breaks": self.breaks,
            "streams": [
                {
                    "worker": worker,
                    "incarnation": stream.incarnation,
                    "sequence": stream.sequence,
                    "task": stream.task.copy(),
                    "open_steps": stream.open_steps.copy(),
                    "steps": {f.name: getattr(stream.steps, f.name).copy() for f in fields(_Steps)},
                }
                for worker, stream in sorted(self._streams.items())
            ],
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""
        self.breaks = int(state["breaks"])
        self._streams = {
            int(saved["worker"]): _Stream(
                incarnation=int(saved["incarnation"]),
                sequence=int(saved["sequence"]),
                task=np.array(saved["task"]),
                open_steps=np.array(saved["open_steps"]),
                steps=_Steps(**{name: np.array(a) for name, a in saved["steps"].items()}),
            )
            for saved in state["streams"]
        }

    def clear(self) -> None:
        """Forget every open window: the streams begin anew."""
        self._streams = {}


def _goes_on(stream: _Stream, unroll: Unroll) -> bool:
    return (
        unroll.incarnation == stream.incarnation
        and unroll.sequence == stream.sequence + 1
        and np.array_equal(unroll.task, stream.task)
    )
