"""Many Meta-World tasks as one: any tasks, stepped together in one process.

Axes: L lanes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from envs.failures import LaneFailures, put
from envs.same_tasks import check_same_tasks
from repertory import seeding
from repertory.config import MetaworldConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import State
from repertory.types import EpisodeRecord, StepResult, TaskSpec

try:
    from envs.metaworld.lane import MetaworldLane
except Exception as error:
    # The simulator loads the library for pictures with itself, wanted or not.
    chosen = os.environ.get("MUJOCO_GL")
    if not chosen:
        raise
    raise BadInput(
        f"Meta-World cannot be loaded with MUJOCO_GL={chosen}: use egl, osmesa or disabled, and "
        f"one whose library is installed ({error})."
    ) from error


class MetaworldLanes:
    """The lanes of one worker (`repertory.ports.Lanes`).

    The benchmark's fixed goals follow from the run's seed alone: every worker and the evaluation
    play the same ones, each lane in an order of its own.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        assignment: Sequence[int],
        settings: MetaworldConfig,
        *,
        seed: int,
        path: tuple[str | int, ...],
        goal_seed: int | None = None,
    ) -> None:
        """Load one task per lane.

        Args:
            tasks: the run's tasks.
            assignment: which of `tasks` each lane plays.
            settings: the protocol.
            seed: the run's seed.
            path: name of this worker's random streams; each lane's are below it.
            goal_seed: of the 50 fixed goals of each task, the run's seed; by default `seed`.

        Raises:
            BadInput: a name is not one of Meta-World's.
            EnvironmentFailure: a task cannot be loaded.
        """
        count = len(assignment)
        self.task = np.array([tasks[index].index for index in assignment], dtype=np.int32)
        self._names = [tasks[index].name for index in assignment]
        self._horizon = settings.horizon
        self._success_ends = settings.success_ends
        self.failures = LaneFailures(self._names)
        self._settings = settings
        self._seed, self._path = seed, path
        self._goal_seed = seed if goal_seed is None else goal_seed
        self._renewals = [0] * count
        self._lanes: list[MetaworldLane] = []
        for lane in range(count):
            try:
                self._lanes.append(self._made(lane, "lane", lane))
            except BadInput:
                raise
            except Exception as error:
                raise self.failures.of(lane, error) from error
        self._observation = np.zeros((count, 39), dtype=np.float32)
        self._reward = np.zeros(count, dtype=np.float32)
        self._terminated = np.zeros(count, dtype=np.bool_)
        self._truncated = np.zeros(count, dtype=np.bool_)
        self._valid = np.ones(count, dtype=np.bool_)
        self._started = np.zeros(count, dtype=np.bool_)
        self._over = [True] * count
        self._return = [0.0] * count
        self._length = [0] * count
        self._success = [False] * count

    def _made(self, lane: int, *stream: str | int) -> MetaworldLane:
        return MetaworldLane(
            self._names[lane],
            self._settings,
            goal_seed=self._goal_seed,
            generator=seeding.stream(self._seed, *self._path, *stream),
        )

    def renew(self, lane: int) -> np.ndarray:
        """Load a lane's task anew, start it, and return its first observation."""
        self._renewals[lane] += 1
        self._lanes[lane].close()
        self._lanes[lane] = self._made(lane, "lane", lane, "renewal", self._renewals[lane])
        self._start(lane)
        first: np.ndarray = self._observation[lane]
        return first

    def reset(self) -> np.ndarray:
        """Start every lane and return the first observations, float32 [L, 39]."""
        for lane in range(len(self._lanes)):
            try:
                self._start(lane)
            except Exception as error:
                self.failures.note(lane, error)
        self._check_finite()
        return self._observation

    def step(self, action: np.ndarray) -> StepResult:
        """Step every lane; see StepResult for the order of resets.

        Args:
            action: float [L, 4]; clipped to [-1, 1].

        Raises:
            EnvironmentFailure: an action is not finite, or a simulation raised, became unstable or
                gave numbers that are not finite.
        """
        chosen = self._checked(action)
        episodes: list[EpisodeRecord] = []
        for lane in range(len(self._lanes)):
            if lane in self.failures.out:
                continue
            try:
                if self._over[lane]:
                    self._start(lane)
                    self._reward[lane] = 0.0
                    self._terminated[lane] = self._truncated[lane] = self._valid[lane] = False
                    self._started[lane] = True
                else:
                    self._play(lane, chosen[lane], episodes)
            except Exception as error:
                self.failures.note(lane, error)
        self._check_finite()
        return StepResult(
            observation=self._observation,
            reward=self._reward,
            terminated=self._terminated,
            truncated=self._truncated,
            valid=self._valid,
            started=self._started,
            episodes=tuple(episodes),
        )

    def rgb(self, lane: int, height: int = 256, width: int = 256) -> np.ndarray:
        """Return a lane's scene, uint8 [height, width, 3].

        Raises:
            BadInput: there is no way to draw on this machine.
        """
        return self._lanes[lane].rgb(height, width)

    def succeeded(self, lane: int) -> bool:
        """Return whether a lane's episode has succeeded by now."""
        return self._success[lane]

    def state(self) -> State:
        """Return everything needed to go on bit for bit, random streams included."""
        return {
            "names": list(self._names),
            "lanes": [lane.state() for lane in self._lanes],
            "observation": self._observation.copy(),
            "over": np.array(self._over, dtype=np.bool_),
            "return": np.array(self._return, dtype=np.float64),
            "length": np.array(self._length, dtype=np.int64),
            "success": np.array(self._success, dtype=np.bool_),
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()` of lanes with the same tasks and settings.

        Raises:
            BadInput: the state is of other tasks.
            EnvironmentFailure: a lane's state is damaged.
        """
        check_same_tasks(state["names"], self._names)
        for index, (lane, saved) in enumerate(zip(self._lanes, state["lanes"], strict=True)):
            try:
                lane.restore(saved)
            except Exception as error:
                raise self.failures.of(index, error) from error
        self._observation[:] = state["observation"]
        self._over = np.asarray(state["over"]).tolist()
        self._return = np.asarray(state["return"]).tolist()
        self._length = np.asarray(state["length"]).tolist()
        self._success = np.asarray(state["success"]).tolist()

    def close(self) -> None:
        """Free the simulations."""
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()

    def _start(self, lane: int) -> None:
        put(self._lanes[lane].reset(), self._observation[lane])
        self._over[lane] = False
        self._return[lane] = 0.0
        self._length[lane] = 0
        self._success[lane] = False

    def _play(self, lane: int, action: np.ndarray, episodes: list[EpisodeRecord]) -> None:
        played = self._lanes[lane].step(action)
        put(played.observation, self._observation[lane])
        self._reward[lane] = played.reward
        self._return[lane] += played.reward
        self._length[lane] += 1
        self._success[lane] = self._success[lane] or played.success
        terminated = self._success_ends and played.success
        truncated = not terminated and self._length[lane] >= self._horizon
        self._terminated[lane] = terminated
        self._truncated[lane] = truncated
        self._valid[lane] = True
        self._started[lane] = False
        if terminated or truncated:
            self._over[lane] = True
            episodes.append(
                EpisodeRecord(
                    task=int(self.task[lane]),
                    raw_return=self._return[lane],
                    length=self._length[lane],
                    success=self._success[lane],
                    truncated=truncated,
                )
            )

    def _checked(self, action: np.ndarray) -> np.ndarray:
        if action.shape != (len(self.task), 4) or action.dtype.kind != "f":
            raise EnvironmentFailure(
                f"need four floating-point numbers for each of {len(self.task)} lanes "
                f"({', '.join(dict.fromkeys(self._names))}), got {action.dtype} of shape "
                f"{action.shape}."
            )
        if not np.isfinite(action).all():
            lane = int(np.flatnonzero(~np.isfinite(action).all(axis=1))[0])
            raise EnvironmentFailure(
                f"{self._names[lane]} (lane {lane}): action {action[lane].tolist()} is not finite."
            )
        clipped: np.ndarray = np.minimum(np.maximum(action, -1.0), 1.0)
        return clipped.astype(np.float32, copy=False)

    def _check_finite(self) -> None:
        if np.isfinite(self._observation).all() and np.isfinite(self._reward).all():
            return
        wrong = ~(np.isfinite(self._observation).all(axis=1) & np.isfinite(self._reward))
        for lane in np.flatnonzero(wrong).tolist():
            failure = EnvironmentFailure(
                f"{self._names[lane]} (lane {lane}) gave an observation or a reward that is not "
                "finite."
            )
            self.failures.note(lane, failure)
