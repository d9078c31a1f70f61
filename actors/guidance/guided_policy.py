"""Acts for each lane with the policy that a chooser picked for it, until the next choice is due.

Axes: L lanes, N of them whose choice is due, D numbers of an observation, M tasks.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32, Int64

from actors.control_policy import ControlPolicy
from actors.policy import Decision
from repertory.ports import State
from repertory.types import GuidanceCounts, StepResult, Weights

NOBODY = -1
"""In place of a guide: the lane resets, or no choice was made for it yet."""


@runtime_checkable
class Chooser(Protocol):
    """Picks whose policy acts."""

    def choose(
        self,
        observation: Float32[np.ndarray, "N D"],
        task: Int32[np.ndarray, " N"],
        lane: Int64[np.ndarray, " N"],
    ) -> Int32[np.ndarray, " N"]:
        """Return a candidate for each lane whose choice is due."""

    def observe(
        self,
        result: StepResult,
        task: Int32[np.ndarray, " L"],
        guide: Int32[np.ndarray, " L"],
    ) -> None:
        """See what a step led to; `guide` is who acted, NOBODY where it was no chosen policy."""

    def counts(self) -> GuidanceCounts | None:
        """Return what the choices came to since the last call; None if that is not counted."""

    def state(self) -> State:
        """Return what decides the next choice beside weights and random stream."""

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""


class GuidedPolicy:
    """Follows a chooser's choices (He et al. 2024, equations 7 and 8).

    A choice is due at the first step of every episode and every `step` steps after it. Blocked
    tasks choose themselves, at the same steps: those are windows of replay like all others. A task
    is blocked, or freed, by newer weights from the lane's next episode on. While actions are still
    uniform nothing is chosen, and the first choice is due as soon as that ends.
    """

    def __init__(self, control: ControlPolicy, chooser: Chooser, *, step: int) -> None:
        self._control = control
        self._chooser = chooser
        self._length = step
        self.version = control.version
        self.recurrent_size = 0
        self._guided: np.ndarray | None = None
        self._task: np.ndarray | None = None
        self._size_lanes(0)

    def _size_lanes(self, lanes: int) -> None:
        self._guide = np.full(lanes, NOBODY, np.int32)
        self._counter = np.zeros(lanes, np.int64)
        self._blocked = np.zeros(lanes, np.bool_)
        self._resets = np.zeros(lanes, np.bool_)

    @property
    def generator(self) -> np.random.Generator:
        """The stream that actions are drawn from."""
        return self._control.generator

    def act(
        self, stacked: np.ndarray, task: np.ndarray, recurrent: np.ndarray, started: np.ndarray
    ) -> Decision:
        """Choose for L lanes; the same lanes at every call."""
        if self._task is None:
            self._size_lanes(len(task))
            self._task = task.astype(np.int32)
        if started.any():
            self._start(started)
        if self._control.exploring:
            self._guide[:] = NOBODY
            self._counter[:] = 0
            unguided = self._control.act(stacked, task, recurrent, started)
            return unguided._replace(guide=self._task, decided=np.zeros(len(task), np.bool_))
        due = ((self._counter >= self._length) | (self._guide == NOBODY)) & ~self._resets
        if due.any():
            self._choose(stacked, due)
        self._counter += 1
        # The action of a step that resets is ignored; the lane's own policy gives it.
        behaviour = np.where(self._resets, self._task, self._guide)
        action, log_probability = self._control.act_as(stacked, behaviour)
        return Decision(action, log_probability, recurrent, behaviour, due)

    def _start(self, started: np.ndarray) -> None:
        assert self._task is not None
        self._guide[started] = NOBODY
        self._counter[started] = 0
        self._resets[started] = False
        guided = self._guided
        self._blocked[started] = False if guided is None else ~guided[self._task[started]]

    def _choose(self, stacked: np.ndarray, due: np.ndarray) -> None:
        assert self._task is not None
        self._counter[due] = 0
        self._guide[due] = self._task[due]
        lane = np.flatnonzero(due & ~self._blocked)
        if lane.size:
            self._guide[lane] = self._chooser.choose(stacked[lane], self._task[lane], lane)

    def observe(self, result: StepResult) -> None:
        """End the choices of lanes whose episode ended."""
        if self._task is None:
            return
        self._chooser.observe(result, self._task, self._guide)
        ended = result.terminated | result.truncated
        if ended.any():
            self._guide[ended] = NOBODY
            self._counter[ended] = 0
            self._resets[ended] = True

    def load(self, weights: Weights) -> None:
        """Act with newer weights at once; tasks are blocked or freed at the next episode."""
        self._control.load(weights)
        self.version = weights.version
        self._guided = None if weights.guided is None else weights.guided.copy()

    def guidance(self) -> GuidanceCounts | None:
        """Return what the chooser counted since the last call."""
        return self._chooser.counts()

    def state(self) -> State:
        """Return the choices of all lanes, which tasks are blocked, and the chooser's state."""
        return {
            "task": None if self._task is None else self._task.copy(),
            "guided": None if self._guided is None else self._guided.copy(),
            "guide": self._guide.copy(),
            "counter": self._counter.copy(),
            "blocked": self._blocked.copy(),
            "resets": self._resets.copy(),
            "chooser": self._chooser.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""
        self._task = None if state["task"] is None else np.array(state["task"], np.int32)
        self._guided = None if state["guided"] is None else np.array(state["guided"], np.bool_)
        self._guide = np.array(state["guide"], np.int32)
        self._counter = np.array(state["counter"], np.int64)
        self._blocked = np.array(state["blocked"], np.bool_)
        self._resets = np.array(state["resets"], np.bool_)
        self._chooser.restore(state["chooser"])
