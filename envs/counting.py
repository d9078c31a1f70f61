"""The environment that tests data flow: its observation is (task, episode, step)."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Sequence

import numpy as np

from envs.box_actions import check_box
from envs.failures import LaneFailures, put
from envs.same_tasks import check_same_tasks
from repertory.config import CountingConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import State
from repertory.types import EpisodeRecord, StepResult, TaskSpec

_NAME = re.compile(r"counting/([0-9]+)")


def number(name: str) -> int:
    """Return the number in counting/<number>, by which its episodes are longer."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadInput(
            f"'{name}' is not a task; counting tasks are written counting/<number>, "
            "for instance counting/0."
        )
    return int(match[1])


class CountingLanes:
    """Lanes that count (`repertory.ports.Lanes`); nothing is random and no action matters.

    The observation is float32 (index of the task, episode of the lane, step of the episode), all
    from 0. The reward of a step is the step number in the observation before it. Actions are
    integers [L], or with `continuous` float32 [L, actions] in [-1, 1].
    """

    def __init__(
        self, tasks: Sequence[TaskSpec], assignment: Sequence[int], settings: CountingConfig
    ) -> None:
        """Make one lane per entry of `assignment`, which says which of `tasks` it plays."""
        count = len(assignment)
        self._settings = settings
        self._names = [tasks[index].name for index in assignment]
        self.task = np.array([tasks[index].index for index in assignment], dtype=np.int32)
        longer = [number(name) for name in self._names]
        self._length = settings.episode_length + np.array(longer, dtype=np.int64)
        self._episode = np.zeros(count, dtype=np.int64)
        self._step = np.zeros(count, dtype=np.int64)
        self._over = np.zeros(count, dtype=np.bool_)
        self._calls = 0
        self._failed = 0
        self.failures = LaneFailures(self._names)

    def reset(self) -> np.ndarray:
        """Start every lane at its first episode."""
        self._episode[:] = 0
        self._step[:] = 0
        self._over[:] = False
        return self._observation()

    def step(self, action: np.ndarray) -> StepResult:
        """Step every lane; the step after an end resets.

        Raises:
            EnvironmentFailure: an action is out of range, or `fail_task` fails and nobody contains
                it.
        """
        self._check(action)
        settings = self._settings
        failing = self._failing()
        for lane in failing:
            if settings.fail_how in ("raise", "reset"):
                self.failures.note(lane, self._failure(lane))
            elif settings.fail_how == "hang":
                time.sleep(1e6)
            elif settings.fail_how == "hang_holding_gil":
                # Functions of a PyDLL are called without letting go of the lock.
                ctypes.PyDLL(None).sleep(1_000_000)
        self._failed += bool(failing)
        if settings.step_seconds > 0.0:
            time.sleep(settings.step_seconds * len(self._names))
        self._calls += 1

        started = self._over.copy()
        reward = np.where(started, 0, self._step).astype(np.float32)
        self._episode[started] += 1
        self._step = np.where(started, 0, self._step + 1)
        ended = ~started & (self._step == self._length)
        cut = np.zeros_like(ended)
        if settings.truncate_every:
            cut = ended & ((self._episode + 1) % settings.truncate_every == 0)
        self._over = ended
        episodes = tuple(
            EpisodeRecord(
                task=int(self.task[lane]),
                raw_return=float(self._length[lane] * (self._length[lane] - 1) // 2),
                length=int(self._length[lane]),
                truncated=bool(cut[lane]),
            )
            for lane in np.flatnonzero(ended)
        )
        observation = self._observation()
        if settings.fail_how == "nan_reward":
            reward[failing] = np.nan
        elif settings.fail_how == "nan_observation":
            observation[failing] = np.nan
        elif settings.fail_how in ("wrong_shape", "wrong_dtype"):
            self._misshape(failing, observation)
        return StepResult(
            observation=observation,
            reward=reward,
            terminated=ended & ~cut,
            truncated=cut,
            valid=~started,
            started=started,
            episodes=episodes,
        )

    def renew(self, lane: int) -> np.ndarray:
        """Go on with a lane's next episode."""
        if self._settings.fail_how == "reset" and lane in self._failing():
            raise self._failure(lane)
        self._episode[lane] += 1
        self._step[lane] = 0
        self._over[lane] = False
        first: np.ndarray = self._observation()[lane]
        return first

    def _failing(self) -> list[int]:
        settings = self._settings
        if self._calls < settings.fail_step or 0 < settings.fail_times <= self._failed:
            return []
        return [
            lane
            for lane, name in enumerate(self._names)
            if name == settings.fail_task and lane not in self.failures.out
        ]

    def _misshape(self, failing: list[int], observation: np.ndarray) -> None:
        for lane in failing:
            row = observation[lane]
            short = self._settings.fail_how == "wrong_shape"
            try:
                put(row[:1] if short else row.astype(np.int64), row)
            except ValueError as error:
                self.failures.note(lane, error)

    def _failure(self, lane: int) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"{self._names[lane]} (lane {lane}) failed: asked to at step {self._settings.fail_step}"
        )

    def state(self) -> State:
        """Return the three counters of every lane and the number of calls."""
        return {
            "names": list(self._names),
            "episode": self._episode.copy(),
            "step": self._step.copy(),
            "over": self._over.copy(),
            "calls": self._calls,
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()` of lanes with the same tasks."""
        check_same_tasks(state["names"], self._names)
        self._episode = np.array(state["episode"], dtype=np.int64)
        self._step = np.array(state["step"], dtype=np.int64)
        self._over = np.array(state["over"], dtype=np.bool_)
        self._calls = int(state["calls"])

    def close(self) -> None:
        """Nothing to free."""

    def _observation(self) -> np.ndarray:
        return np.stack([self.task, self._episode, self._step], axis=1).astype(np.float32)

    def _check(self, action: np.ndarray) -> None:
        if self._settings.continuous:
            check_box(action, self._names, self._settings.actions)
            return
        if action.shape != self.task.shape or action.dtype.kind not in "iu":
            raise EnvironmentFailure(
                f"need one integer action for each of {len(self.task)} lanes, "
                f"got {action.dtype} of shape {action.shape}."
            )
        wrong = np.flatnonzero((action < 0) | (action >= self._settings.actions))
        if wrong.size:
            lane = int(wrong[0])
            raise EnvironmentFailure(
                f"{self._names[lane]} (lane {lane}): action {action[lane]} is not one of "
                f"0 to {self._settings.actions - 1}."
            )
