"""Points in a plane with a wall: a group of tasks in which one task's policy begins another's.

Every task has the same room, [-1, 1]^2 with a wall at x = 0 and a gap far up in it, the same start
far down on the left, and the same dynamics. `door` and `corner` are rewarded at every step for
being near the gap or near the corner under it; `beyond` only inside a disc behind the gap, which
undirected exploration hardly ever finds and which is near once the policy of `door` has been
followed. So a guide that lends policies across tasks shows what it is worth within seconds.

Axes: L lanes; the last axis is (x, y).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from envs.box_actions import check_box
from envs.failures import LaneFailures
from envs.same_tasks import check_same_tasks
from repertory import seeding
from repertory.config import PointMassConfig
from repertory.errors import BadInput, did_you_mean
from repertory.ports import State
from repertory.types import ActionSpec, EpisodeRecord, ObservationSpec, StepResult, TaskSpec

OBSERVATION = ObservationSpec((2,), "float32", 1)
ACTION = ActionSpec("box", 2)

START = (-0.8, -0.6)
START_SPREAD = 0.05
"""Starts are uniform in a square of this half side."""
SPEED = 0.1
"""Largest displacement per step along each axis."""
GAP = (0.0, 0.6)
GAP_HALF_WIDTH = 0.15
_WALL_HALF_WIDTH = 1e-3
"""A point that the wall stops is left so far from its middle."""


class Task(NamedTuple):
    """Where a task's points should be, and how they are told."""

    target: tuple[float, float]
    radius: float
    """Within it the target counts as reached."""
    dense: bool
    """Rewarded 1 - distance / 1.5 at every step; else 1 within the radius and 0 outside."""


TASKS: dict[str, Task] = {
    "door": Task(GAP, 0.15, dense=True),
    "corner": Task((-0.2, -0.9), 0.15, dense=True),
    "beyond": Task((0.45, 0.6), 0.3, dense=False),
}
"""Every task; a new one is a line here."""

SUITES: dict[str, tuple[str, ...]] = {"mt3": ("door", "corner", "beyond")}

_PREFIX = "pointmass/"
_DISTANCE_SCALE = 1.5
_PIXELS = 240


def task(name: str) -> Task:
    """Return the task pointmass/<name>.

    Raises:
        BadInput: there is no such task.
    """
    key = name.removeprefix(_PREFIX)
    if not name.startswith(_PREFIX) or key not in TASKS:
        raise _unknown(name, [_PREFIX + known for known in TASKS])
    return TASKS[key]


def expand(name: str) -> tuple[str, ...]:
    """Return the tasks that pointmass/<suite> or pointmass/<task> stands for, in order.

    Raises:
        BadInput: there is no such suite or task.
    """
    if name in suites():
        return tuple(_PREFIX + each for each in SUITES[name.removeprefix(_PREFIX)])
    if not name.startswith(_PREFIX) or name.removeprefix(_PREFIX) not in TASKS:
        raise _unknown(name, [*suites(), *(_PREFIX + known for known in TASKS)])
    return (name,)


def suites() -> tuple[str, ...]:
    """Return the names of the suites."""
    return tuple(_PREFIX + name for name in SUITES)


class PointMassLanes:
    """The lanes of one worker (`repertory.ports.Lanes`), all of them in a few array operations.

    The observation is the position, float32 (x, y): neither task nor target is in it. An action is
    a displacement in units of `SPEED`. Episodes are played to the horizon, so a return counts how
    soon the target was reached and how well it was held; success is having reached it.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        assignment: Sequence[int],
        settings: PointMassConfig,
        *,
        seed: int,
        path: tuple[str | int, ...],
    ) -> None:
        """Make one point per lane.

        Args:
            tasks: the run's tasks.
            assignment: which of `tasks` each lane plays.
            settings: horizon and noise.
            seed: the run's seed.
            path: name of this worker's random streams.

        Raises:
            BadInput: a task's name is wrong.
        """
        count = len(assignment)
        self.task = np.array([tasks[index].index for index in assignment], dtype=np.int32)
        self._names = [tasks[index].name for index in assignment]
        kinds = [task(name) for name in self._names]
        self._target = np.array([kind.target for kind in kinds]).reshape(count, 2)
        self._radius = np.array([kind.radius for kind in kinds])
        self._dense = np.array([kind.dense for kind in kinds], dtype=np.bool_)
        self._horizon = settings.horizon
        self._noise = settings.noise
        self.failures = LaneFailures(self._names)
        self._random = seeding.stream(seed, *path, "points")
        self._position = np.full((count, 2), np.nan)
        self._over = np.ones(count, dtype=np.bool_)
        self._reached = np.zeros(count, dtype=np.bool_)
        self._return = np.zeros(count, dtype=np.float64)
        self._length = np.zeros(count, dtype=np.int64)

    def reset(self) -> np.ndarray:
        """Start every lane and return the first observations, float32 [L, 2]."""
        self._over[:] = False
        self._start(np.ones(len(self._names), dtype=np.bool_))
        return self._position.astype(np.float32)

    def step(self, action: np.ndarray) -> StepResult:
        """Step every lane; the step after an end resets.

        Args:
            action: float32 [L, 2] in [-1, 1].

        Raises:
            EnvironmentFailure: an action is out of range.
        """
        check_box(action, self._names, ACTION.size)
        started = self._over
        displacement = SPEED * action.astype(np.float64)
        if self._noise > 0.0:
            displacement += self._noise * self._random.standard_normal(displacement.shape)
        self._position = moved(self._position, displacement)
        distance = np.linalg.norm(self._position - self._target, axis=1)
        inside = distance <= self._radius
        reward = np.where(self._dense, 1.0 - distance / _DISTANCE_SCALE, inside)
        self._return += reward
        self._length += 1
        self._reached |= inside
        if started.any():
            reward[started] = 0.0
            self._start(started)
        ended = self._length >= self._horizon
        self._over = ended
        episodes = tuple(
            EpisodeRecord(
                task=int(self.task[lane]),
                raw_return=float(self._return[lane]),
                length=int(self._length[lane]),
                success=bool(self._reached[lane]),
                truncated=True,
            )
            for lane in np.flatnonzero(ended)
        )
        return StepResult(
            observation=self._position.astype(np.float32),
            reward=reward.astype(np.float32),
            terminated=np.zeros_like(ended),
            truncated=ended,
            valid=~started,
            started=started,
            episodes=episodes,
        )

    def renew(self, lane: int) -> np.ndarray:
        """Start a lane anew and return its first observation; there is nothing to rebuild."""
        self._over[lane] = False
        self._start(np.arange(len(self._names)) == lane)
        first: np.ndarray = self._position[lane].astype(np.float32)
        return first

    def succeeded(self, lane: int) -> bool:
        """Return whether a lane's episode has reached its target by now."""
        return bool(self._reached[lane])

    def rgb(self, lane: int) -> np.ndarray:
        """Draw a lane from above: wall, target and point, uint8 [240, 240, 3]."""
        axis = (np.arange(_PIXELS) + 0.5) / _PIXELS * 2.0 - 1.0
        x, y = np.meshgrid(axis, -axis)
        picture = np.full((_PIXELS, _PIXELS, 3), 255, dtype=np.uint8)
        target, point = self._target[lane], self._position[lane]
        picture[np.hypot(x - target[0], y - target[1]) <= self._radius[lane]] = (150, 210, 150)
        picture[(np.abs(x) < 0.015) & (np.abs(y - GAP[1]) > GAP_HALF_WIDTH)] = (60, 60, 60)
        picture[np.hypot(x - point[0], y - point[1]) <= 0.04] = (200, 40, 40)
        return picture

    def state(self) -> State:
        """Return everything needed to go on bit for bit, the random state included."""
        return {
            "names": list(self._names),
            "position": self._position.copy(),
            "over": self._over.copy(),
            "reached": self._reached.copy(),
            "return": self._return.copy(),
            "length": self._length.copy(),
            "random": self._random.bit_generator.state,
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()` of lanes with the same tasks and settings.

        Raises:
            BadInput: the state is of other tasks.
        """
        check_same_tasks(state["names"], self._names)
        self._position = np.array(state["position"], dtype=np.float64)
        self._over = np.array(state["over"], dtype=np.bool_)
        self._reached = np.array(state["reached"], dtype=np.bool_)
        self._return = np.array(state["return"], dtype=np.float64)
        self._length = np.array(state["length"], dtype=np.int64)
        self._random.bit_generator.state = state["random"]

    def close(self) -> None:
        """Nothing to free."""

    def _start(self, lanes: np.ndarray) -> None:
        count = int(np.count_nonzero(lanes))
        spread = self._random.uniform(-START_SPREAD, START_SPREAD, (count, 2))
        self._position[lanes] = np.array(START) + spread
        self._reached[lanes] = False
        self._return[lanes] = 0.0
        self._length[lanes] = 0


def moved(position: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Return where points come to: stopped by the room's sides and, outside the gap, by its wall.

    A stopped point keeps its motion along what stopped it.

    Args:
        position: float64 [L, 2].
        displacement: float64 [L, 2].
    """
    end: np.ndarray = np.clip(position + displacement, -1.0, 1.0)
    x, new_x = position[:, 0], end[:, 0]
    crosses = (x < 0.0) != (new_x < 0.0)
    # Where the way crosses the wall; ways that do not cross have no such place.
    share = x / np.where(crosses, x - new_x, 1.0)
    height = position[:, 1] + share * (end[:, 1] - position[:, 1])
    stopped = crosses & (np.abs(height - GAP[1]) > GAP_HALF_WIDTH)
    end[:, 0] = np.where(stopped, np.where(x < 0.0, -_WALL_HALF_WIDTH, _WALL_HALF_WIDTH), new_x)
    return end


def _unknown(name: str, known: list[str]) -> BadInput:
    return BadInput(
        f"unknown task '{name}'.{did_you_mean(name, known)} Available: {', '.join(known)}."
    )
