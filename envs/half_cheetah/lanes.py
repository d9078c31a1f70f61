"""HalfCheetah variants as lanes, equal to Gymnasium's HalfCheetah-v5 bit for bit.

Axes: L lanes, A = 6 numbers of an action, D = 17 numbers of an observation.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.box_actions import check_box
from envs.failures import LaneFailures
from envs.half_cheetah import bodies, catalog
from envs.offscreen import Camera
from envs.same_tasks import check_same_tasks
from repertory import seeding
from repertory.config import HalfCheetahConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import State
from repertory.types import EpisodeRecord, StepResult, TaskSpec

_SUBSTEPS = 5
_CONTROL_COST = 0.1
_RESET_NOISE = 0.1
_PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION
_BAD_STATES = slice(mujoco.mjtWarning.mjWARN_BADQPOS.value, mujoco.mjtWarning.mjWARN_BADCTRL.value)
"""mujoco's counters of positions, velocities and accelerations that are no numbers, or huge."""


class HalfCheetahLanes:
    """The lanes of one worker (`repertory.ports.Lanes`), each a simulation of its own.

    The reward of a step is the forward speed in m/s minus 0.1 times the action's squared norm.
    Nothing ends an episode but its horizon, and nothing counts as success.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        assignment: Sequence[int],
        settings: HalfCheetahConfig,
        *,
        seed: int,
        path: tuple[str | int, ...],
    ) -> None:
        """Build one body per task and one simulation per lane.

        Args:
            tasks: the run's tasks.
            assignment: which of `tasks` each lane plays.
            settings: the protocol.
            seed: the run's seed.
            path: name of this worker's random streams; each lane's is below it.

        Raises:
            BadInput: a task's name is wrong.
            EnvironmentFailure: Gymnasium's body is missing.
        """
        count = len(assignment)
        self.task = np.array([tasks[index].index for index in assignment], dtype=np.int32)
        self._names = [tasks[index].name for index in assignment]
        self._horizon = settings.horizon
        # Simulations of one body share it: stepping only reads it.
        models = {
            name: bodies.build(catalog.variant(name), settings.body_scaling)
            for name in dict.fromkeys(self._names)
        }
        self._models = [models[name] for name in self._names]
        self._seconds = self._models[0].opt.timestep * _SUBSTEPS
        self._data = [mujoco.MjData(model) for model in self._models]
        self.failures = LaneFailures(self._names)
        self._seed, self._path = seed, path
        self._renewals = [0] * count
        self._random = [seeding.stream(seed, *path, "lane", lane) for lane in range(count)]
        # Views into the simulations, taken once: making one costs as much as a third of a substep.
        self._position = [data.qpos for data in self._data]
        self._velocity = [data.qvel for data in self._data]
        self._control = [data.ctrl for data in self._data]
        self._unstable = [data.warning.number[_BAD_STATES] for data in self._data]
        self._first_position = [position.copy() for position in self._position]
        self._cameras: dict[int, Camera] = {}

        self._observation = np.full((count, catalog.OBSERVATION.shape[0]), np.nan, np.float32)
        self._place = np.zeros(count, dtype=np.float64)
        self._over = np.ones(count, dtype=np.bool_)
        self._return = np.zeros(count, dtype=np.float64)
        self._length = np.zeros(count, dtype=np.int64)

    def reset(self) -> np.ndarray:
        """Start every lane and return the first observations, float32 [L, 17]."""
        for lane in range(len(self._data)):
            self._start(lane)
        self._over[:] = False
        self._return[:] = 0.0
        self._length[:] = 0
        return self._observation.copy()

    def step(self, action: np.ndarray) -> StepResult:
        """Step every lane by 0.05 s; the step after an end resets.

        Args:
            action: torques as shares of each motor's largest, float32 [L, 6] in [-1, 1].

        Raises:
            EnvironmentFailure: an action is out of range or a simulation is unstable.
        """
        check_box(action, self._names, catalog.ACTION.size)
        started = self._over.copy()
        before = self._place.copy()
        for lane, starting in enumerate(started.tolist()):
            if lane in self.failures.out:
                continue
            try:
                if starting:
                    self._start(lane)
                else:
                    self._simulate(lane, action[lane])
            except Exception as error:
                self.failures.note(lane, error)
        played = ~started
        played[list(self.failures.now)] = False
        # As Gymnasium computes it, the cost in the action's own float32.
        cost = _CONTROL_COST * np.add.reduce(np.square(action), axis=1)
        reward = np.where(played, (self._place - before) / self._seconds - cost, 0.0)
        self._return = np.where(started, 0.0, self._return + reward)
        self._length = np.where(started, 0, self._length + 1)
        ended = played & (self._length >= self._horizon)
        self._over = ended
        episodes = tuple(
            EpisodeRecord(
                task=int(self.task[lane]),
                raw_return=float(self._return[lane]),
                length=int(self._length[lane]),
                truncated=True,
            )
            for lane in np.flatnonzero(ended)
        )
        return StepResult(
            observation=self._observation.copy(),
            reward=reward.astype(np.float32),
            terminated=np.zeros_like(ended),
            truncated=ended.copy(),
            valid=played,
            started=started,
            episodes=episodes,
        )

    def renew(self, lane: int) -> np.ndarray:
        """Make a lane's simulation anew, start it, and return its first observation."""
        self._renewals[lane] += 1
        stream = ("lane", lane, "renewal", self._renewals[lane])
        data = mujoco.MjData(self._models[lane])
        self._data[lane] = data
        self._random[lane] = seeding.stream(self._seed, *self._path, *stream)
        self._position[lane], self._velocity[lane] = data.qpos, data.qvel
        self._control[lane] = data.ctrl
        self._unstable[lane] = data.warning.number[_BAD_STATES]
        self._start(lane)
        self._over[lane] = False
        self._return[lane] = 0.0
        self._length[lane] = 0
        first: np.ndarray = self._observation[lane]
        return first

    def rgb(self, lane: int) -> np.ndarray:
        """Draw a lane from the camera that follows it, uint8 [240, 320, 3].

        Raises:
            BadInput: neither EGL nor OSMesa works here.
        """
        if lane not in self._cameras:
            self._cameras[lane] = Camera(self._models[lane], "track", height=240, width=320)
        return self._cameras[lane].picture(self._data[lane])

    def state(self) -> State:
        """Return everything needed to go on bit for bit, the solver's warm start included."""
        return {
            "names": list(self._names),
            "horizon": self._horizon,
            "physics": [
                _read(model, data) for model, data in zip(self._models, self._data, strict=True)
            ],
            "random": [generator.bit_generator.state for generator in self._random],
            "over": self._over.copy(),
            "return": self._return.copy(),
            "length": self._length.copy(),
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()` of lanes with the same tasks and settings.

        Raises:
            BadInput: the state is of other tasks or of another horizon.
        """
        check_same_tasks(state["names"], self._names)
        if state["horizon"] != self._horizon:
            raise BadInput(
                f"the saved lanes have a horizon of {state['horizon']} steps, "
                f"these lanes one of {self._horizon}."
            )
        for lane, physics in enumerate(state["physics"]):
            self._write(lane, np.asarray(physics, dtype=np.float64))
            self._random[lane].bit_generator.state = state["random"][lane]
            self._observe(lane)
        self._over = np.array(state["over"], dtype=np.bool_)
        self._return = np.array(state["return"], dtype=np.float64)
        self._length = np.array(state["length"], dtype=np.int64)

    def close(self) -> None:
        """Free the graphics contexts."""
        for camera in self._cameras.values():
            camera.close()
        self._cameras.clear()

    def _start(self, lane: int) -> None:
        model, data, random = self._models[lane], self._data[lane], self._random[lane]
        mujoco.mj_resetData(model, data)
        # Gymnasium's draws in Gymnasium's order: HalfCheetah-v5, reset_model.
        self._position[lane][:] = self._first_position[lane] + random.uniform(
            low=-_RESET_NOISE, high=_RESET_NOISE, size=model.nq
        )
        self._velocity[lane][:] = _RESET_NOISE * random.standard_normal(model.nv)
        mujoco.mj_forward(model, data)
        self._observe(lane)

    def _simulate(self, lane: int, action: np.ndarray) -> None:
        self._control[lane][:] = action
        # Gymnasium also computes the forces within the body afterwards; nothing reads them.
        mujoco.mj_step(self._models[lane], self._data[lane], nstep=_SUBSTEPS)
        # mujoco restarts what it finds unstable, and goes on.
        if any(self._unstable[lane].tolist()):
            raise EnvironmentFailure(
                f"{self._names[lane]} (lane {lane}): the simulation became unstable "
                f"at step {self._length[lane]} of its episode."
            )
        self._observe(lane)

    def _observe(self, lane: int) -> None:
        position = self._position[lane]
        row = self._observation[lane]
        row[:8] = position[1:]
        row[8:] = self._velocity[lane]
        self._place[lane] = position[0]

    def _write(self, lane: int, physics: np.ndarray) -> None:
        model, data = self._models[lane], self._data[lane]
        if physics.shape != (mujoco.mj_stateSize(model, _PHYSICS),):
            raise BadInput(
                f"the saved simulation of {self._names[lane]} (lane {lane}) has shape "
                f"{physics.shape}; it is damaged or of another MuJoCo."
            )
        mujoco.mj_resetData(model, data)
        mujoco.mj_setState(model, data, physics, _PHYSICS)
        # For pictures: where the parts are. It moves the solver's warm start, hence once more.
        mujoco.mj_forward(model, data)
        mujoco.mj_setState(model, data, physics, _PHYSICS)


def _read(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    physics = np.empty(mujoco.mj_stateSize(model, _PHYSICS), dtype=np.float64)
    mujoco.mj_getState(model, data, physics, _PHYSICS)
    return physics
