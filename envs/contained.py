"""Contains environments that fail: the episode is dropped and the environment rebuilt, and a task
that fails too often is given up.

Axes: L lanes.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from envs.failures import RenewableLanes
from repertory.errors import EnvironmentFailure
from repertory.ports import State
from repertory.types import EnvironmentFault, StepResult, TaskSpec

log = logging.getLogger(__name__)


class FailureBudget:
    """How often the environments of each task have failed lately, over all lanes of one worker."""

    def __init__(
        self, tolerated: int, window_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Give a task up when it fails more than `tolerated` times within `window_s` seconds.

        With `tolerated` 0 nothing is contained: the first failure is raised.
        """
        self._tolerated = tolerated
        self._window_s = window_s
        self._clock = clock
        self._times: dict[int, deque[float]] = {}
        self.given_up: set[int] = set()

    def spend(self, task: TaskSpec, reason: str) -> EnvironmentFault:
        """Count a failure of `task` and return it, with whether the task is given up by it.

        Raises:
            EnvironmentFailure: failures are not tolerated at all.
        """
        if self._tolerated == 0:
            raise EnvironmentFailure(reason)
        now = self._clock()
        times = self._times.setdefault(task.index, deque())
        times.append(now)
        while times[0] < now - self._window_s:
            times.popleft()
        gives_up = len(times) > self._tolerated and task.index not in self.given_up
        if gives_up:
            self.given_up.add(task.index)
        return EnvironmentFault(task.index, reason, gives_up)


class ContainedLanes:
    """Lanes (`repertory.ports.Lanes`) that outlive their environments.

    A lane fails when its environment raises, or answers with numbers that are not finite or with
    an observation of another shape or type than its task's. The step under way is then given out as
    one that resets: not valid, no reward, and the observation is the first of a rebuilt
    environment. What was played before it stays, bootstrapped from the last good observation like
    an episode cut by a time limit; the episode itself is not counted. Lanes of a task that is given
    up stand still: their steps are not valid and their observations zero.
    """

    def __init__(
        self, lanes: RenewableLanes, tasks: Sequence[TaskSpec], budget: FailureBudget
    ) -> None:
        """Contain `lanes`; a worker's groups of lanes share one budget."""
        self._lanes = lanes
        self._specs = [tasks[int(index)] for index in lanes.task]
        # Observations of all lanes are one array, so that they have this in common.
        shown = self._specs[0].observation
        self._form = shown.shape, np.dtype(shown.dtype)
        self._budget = budget
        self._pending: list[EnvironmentFault] = []
        self.task = lanes.task
        lanes.failures.contained = True

    def reset(self) -> np.ndarray:
        """Start every lane; what fails in it is reported with the first step."""
        observation = np.array(self._lanes.reset())
        if trouble := self._misfit(observation):
            observation = self._refused(trouble)
        for lane, reason in self._failures(observation, None).items():
            observation[lane] = self._recovered(lane, reason)
        return self._still(observation)

    def step(self, action: np.ndarray) -> StepResult:
        """Step every lane that is not given up."""
        result = self._lanes.step(action)
        if trouble := self._misfit(result.observation):
            result = dataclasses.replace(result, observation=self._refused(trouble))
        failed = self._failures(result.observation, result.reward)
        if not failed and not self._budget.given_up:
            if self._pending:
                result = dataclasses.replace(result, faults=self._drained())
            return result
        observation = np.array(result.observation)
        for lane, reason in failed.items():
            observation[lane] = self._recovered(lane, reason)
        idle = self._idle()
        begun = idle.copy()
        begun[list(failed)] = True
        return dataclasses.replace(
            result,
            observation=self._still(observation),
            reward=np.where(begun, np.float32(0.0), result.reward),
            terminated=result.terminated & ~begun,
            truncated=result.truncated & ~begun,
            valid=result.valid & ~begun,
            started=result.started | begun,
            # The return of an episode with a reward that is no number says nothing.
            episodes=tuple(e for e in result.episodes if np.isfinite(e.raw_return)),
            faults=self._drained(),
        )

    def _misfit(self, observation: np.ndarray) -> str:
        """Return what the observations of all lanes are like, if not like what the tasks have."""
        shape, dtype = self._form
        if observation.shape[1:] == shape and observation.dtype == dtype:
            return ""
        return (
            f"gave observations of {observation.dtype} {observation.shape[1:]}, where the task's "
            f"are {dtype} {shape}"
        )

    def _refused(self, trouble: str) -> np.ndarray:
        """Note that every lane failed, and return what stands for its observation until renewed."""
        for lane, spec in enumerate(self._specs):
            failure = EnvironmentFailure(f"{spec.name} (lane {lane}) {trouble}")
            self._lanes.failures.note(lane, failure)
        shape, dtype = self._form
        return np.zeros((len(self._specs), *shape), dtype)

    def _failures(self, observation: np.ndarray, reward: np.ndarray | None) -> dict[int, str]:
        """Return the lanes that failed by themselves or by their numbers, with the reasons."""
        idle = self._idle()
        found = {lane: why for lane, why in self._lanes.failures.take().items() if not idle[lane]}
        wrong = np.zeros(len(self.task), np.bool_)
        if observation.dtype.kind == "f" and not np.isfinite(observation).all():
            wrong |= ~np.isfinite(observation).reshape(len(wrong), -1).all(axis=1)
        if reward is not None and not np.isfinite(reward).all():
            wrong |= ~np.isfinite(reward)
        for lane in np.flatnonzero(wrong & ~idle).tolist():
            name = self._specs[lane].name
            reason = f"{name} (lane {lane}) gave an observation or a reward that is not finite"
            if found.setdefault(lane, reason) == reason:
                log.info("%s", reason)
        return found

    def _recovered(self, lane: int, reason: str) -> np.ndarray | float:
        """Rebuild a lane until it starts or its task is given up; return its observation."""
        spec = self._specs[lane]
        while True:
            self._pending.append(self._budget.spend(spec, reason))
            if spec.index in self._budget.given_up:
                return 0.0
            try:
                first = self._lanes.renew(lane)
            except Exception as error:  # whatever an environment raises
                reason = str(self._lanes.failures.of(lane, error))
                log.info("%s", reason, exc_info=error)
                continue
            if trouble := self._misfit(first[None]):
                reason = f"{spec.name} (lane {lane}) {trouble}"
            elif np.isfinite(first).all():
                return first
            else:
                reason = f"{spec.name} (lane {lane}) began with an observation that is not finite"

    def _idle(self) -> np.ndarray:
        return np.isin(self.task, list(self._budget.given_up))

    def _still(self, observation: np.ndarray) -> np.ndarray:
        """Return observations with those of given-up lanes at zero, and step these no more."""
        idle = self._idle()
        self._lanes.failures.out = set(np.flatnonzero(idle).tolist())
        observation[idle] = 0
        return observation

    def _drained(self) -> tuple[EnvironmentFault, ...]:
        faults, self._pending = tuple(self._pending), []
        return faults

    def state(self) -> State:
        """Return the lanes' state; without their environments once a task is given up."""
        return {"given_up": True} if self._budget.given_up else self._lanes.state()

    def restore(self, state: State) -> None:
        """Take up a state of whole lanes."""
        self._lanes.restore(state)

    def close(self) -> None:
        """Free what the lanes hold."""
        self._lanes.close()
