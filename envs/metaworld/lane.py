"""One Meta-World task, stepped and reset by the caller; its state can be saved and resumed."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import metaworld
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs.metaworld import attributes
from envs.metaworld.catalog import package_name
from envs.metaworld.fast import fast_class
from envs.metaworld.goals import fixed_goals
from envs.metaworld.snapshot import MODEL_EDITS, POSES, Snapshot
from envs.offscreen import Camera
from repertory.config import MetaworldConfig
from repertory.ports import State
from repertory.seeding import generator_words, set_generator_words

_CAMERA = "corner2"
_UNSTABLE = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class LaneStep(NamedTuple):
    """What one agent step did."""

    observation: np.ndarray
    """float64 [39], as the package gives it."""
    reward: float
    success: bool
    """Whether the task is solved at this very step."""


class MetaworldLane:
    """One environment of the package, or of its fast subclass."""

    def __init__(
        self,
        task: str,
        settings: MetaworldConfig,
        *,
        goal_seed: int,
        generator: np.random.Generator,
    ) -> None:
        """Load the task.

        Args:
            task: metaworld/<task>.
            settings: the protocol.
            goal_seed: of the benchmark's fixed goals.
            generator: where each episode's goal comes from.
        """
        name = package_name(task)
        original = ALL_V3_ENVIRONMENTS[name]
        goals = fixed_goals(name, goal_seed)
        chosen = fast_class(name) if settings.fast else original
        self.environment: Any = chosen(reward_function_version=settings.reward_version)
        task_data = {"env_cls": original, "rand_vec": goals[0], "partially_observable": False}
        self.environment.set_task(metaworld.Task(name, pickle.dumps(task_data)))
        self._goals = np.stack(goals) if settings.goals == "fixed" else None
        if self._goals is None:
            self.environment._freeze_rand_vec = False
            self.environment.seeded_rand_vec = True
            self.environment.np_random = generator
        self._generator = generator
        self._camera: Camera | None = None
        self._size = (0, 0)

    def reset(self) -> np.ndarray:
        """Start the next episode and return its first observation, float64 [39]."""
        if self._goals is not None:
            goal = self._goals[int(self._generator.integers(len(self._goals)))]
            self.environment._last_rand_vec = goal.copy()
        observation, _ = self.environment.reset()
        return np.asarray(observation)

    def step(self, action: np.ndarray) -> LaneStep:
        """Play one agent step; `action` is float32 [4] within [-1, 1].

        Raises:
            FloatingPointError: the simulation became unstable.
        """
        observation, reward, _, _, info = self.environment.step(action)
        warnings = self.environment.data.warning.number
        if any(warnings[kind] for kind in _UNSTABLE):
            raise FloatingPointError("the simulation became unstable")
        return LaneStep(observation, float(reward), bool(info["success"] > 0))

    def rgb(self, height: int, width: int) -> np.ndarray:
        """Return the scene as it is, uint8 [height, width, 3].

        Raises:
            BadInput: neither EGL nor OSMesa works here.
        """
        if self._camera is None or self._size != (height, width):
            self._close_camera()
            model = self.environment.model
            self._camera = Camera(model, _CAMERA, height=height, width=width)
            self._size = (height, width)
        # This camera hangs upside down in the package's scenes.
        return np.ascontiguousarray(self._camera.picture(self.environment.data)[::-1, ::-1])

    def state(self) -> State:
        """Return everything needed to go on bit for bit."""
        environment = self.environment
        snapshot = Snapshot.of(environment.model, environment.data)
        return {
            "physics": snapshot.state,
            "poses": dict(zip(POSES, snapshot.poses, strict=True)),
            "model": {name: getattr(environment.model, name).copy() for name in MODEL_EDITS},
            "attributes": attributes.save(environment),
            "goals": None if self._goals is None else self._goals.copy(),
            "random": generator_words(self._generator),
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()` of the same task and kind of goals, fast path or not."""
        if (state["goals"] is None) != (self._goals is None):
            raise ValueError("the saved lane has another kind of goals, fixed or fresh")
        environment = self.environment
        for name in MODEL_EDITS:
            getattr(environment.model, name)[...] = state["model"][name]
        poses = tuple(np.asarray(state["poses"][name]) for name in POSES)
        physics = np.asarray(state["physics"], dtype=np.float64)
        Snapshot(physics, poses).put(environment.model, environment.data)
        attributes.put(environment, state["attributes"])
        if self._goals is not None:
            self._goals = np.array(state["goals"], dtype=np.float64)
        set_generator_words(self._generator, np.asarray(state["random"]))

    def close(self) -> None:
        """Free the simulation."""
        self._close_camera()
        self.environment.close()

    def _close_camera(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None
