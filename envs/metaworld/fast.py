"""The package's environments with most of their Python taken out and every number left as it is.

Each class here is a subclass of the package's own, which keeps computing the reward. What differs:
poses are read through arrays held on to, not looked up by name; contacts are read as arrays;
rotations become quaternions in closed form; forces after constraints, which nothing reads, are not
computed, and goal sites are not written where the next call overwrites them. Resets do not settle
the hand again from a state it was settled from before. The physics is called as in the package.
"""

from __future__ import annotations

import copy
import functools
import math
from collections import OrderedDict
from typing import Any

import metaworld  # noqa: F401 (registers; env_dict cannot be imported before it)
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs.metaworld.quaternion import from_matrix
from envs.metaworld.snapshot import MODEL_EDITS, Snapshot, integration_state
from envs.metaworld.views import FastData, Views

# Where the package turns a rotation matrix of the simulation into the object's quaternion.
_MATRIX_SOURCES = {
    ("geom", "mug"): ("coffee-pull", "coffee-push"),
    ("geom", "handle"): ("door-close", "door-open"),
    ("geom", "objGeom"): (
        *("lever-pull", "reach", "reach-wall", "shelf-place", "sweep-into"),
        *("pick-place", "pick-place-wall", "push", "push-back", "push-wall"),
    ),
    ("geom", "puck"): (
        "plate-slide",
        "plate-slide-back",
        "plate-slide-back-side",
        "plate-slide-side",
    ),
    ("site", "pegGrasp"): ("peg-insert-side",),
    ("body", "soccer_ball"): ("soccer",),
    ("body", "stick"): ("stick-pull", "stick-push"),
}

# The package resets every model twice. In these tasks the first time shows in the second.
TWICE = frozenset(
    f"{task}-v3"
    for task in (
        "box-close",
        "dial-turn",
        "disassemble",
        "door-lock",
        "door-unlock",
        "drawer-open",
        "faucet-open",
        "handle-press",
        "handle-press-side",
        "handle-pull",
        "handle-pull-side",
        "lever-pull",
        "peg-unplug-side",
        "window-close",
        "window-open",
    )
)

_SETTLED_AT_MOST = 128
"""Settled states kept per task: the benchmark has 50 goals, and each takes some 20 kB."""

_HAND_QUATERNION = np.array([1.0, 0.0, 1.0, 0.0])


class _Fast:
    """Goes before a class of the package; see the top of the file."""

    _fast_name: str
    _settled: OrderedDict[bytes, Snapshot]
    _views: Views
    model: Any
    data: Any

    def _initialize_simulation(self) -> tuple[Any, Any]:
        self._settling = "every time"
        model = copy.copy(_compiled(self.fullpath, self.width, self.height))  # type: ignore[attr-defined]
        data = FastData(model)
        self._views = Views(data)
        for (kind, name), tasks in _MATRIX_SOURCES.items():
            if self._fast_name.removesuffix("-v3") in tasks:
                self._views.matrix = getattr(data, kind)(name).xmat
        return model, data

    def close(self) -> None:
        """Free the simulation."""
        super().close()  # type: ignore[misc]
        self.data.forget_views()

    def set_task(self, task: Any) -> None:
        super().set_task(task)  # type: ignore[misc]
        space: Any = self.sawyer_observation_space  # type: ignore[attr-defined]
        self._views.low, self._views.high = space.low, space.high

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        here: Any = self
        if here.curr_path_length >= here.max_path_length:
            raise ValueError("You must reset the env manually once truncate==True")
        views = self._views
        moved = np.minimum(np.maximum(action[:3], -1), 1) * here.action_scale
        np.minimum(
            np.maximum(views.mocap + moved, here.mocap_low), here.mocap_high, out=views.mocap
        )
        views.mocap_quaternion[:] = _HAND_QUATERNION
        grip = action[3]
        views.control[0] = grip
        views.control[1] = -grip
        model, data = self.model, self.data
        mujoco.mj_step(model, data, nstep=here.frame_skip)
        here.curr_path_length += 1
        # Not for the poses alone: the next step's solver starts from what this one found.
        mujoco.mj_forward(model, data)
        observation = np.empty(39)
        observation[18:36] = here._prev_obs
        here._prev_obs = now = self._get_curr_obs_combined_no_goal()
        observation[:18] = now
        observation[36:] = here._get_pos_goal()
        np.minimum(np.maximum(observation, views.low), views.high, out=observation)
        here._last_stable_obs = observation
        reward, info = here.evaluate_state(observation, action)
        truncated = here.curr_path_length == here.max_path_length
        return observation.copy(), reward, False, truncated, info

    def _get_curr_obs_combined_no_goal(self) -> np.ndarray:
        here: Any = self
        views = self._views
        now = np.zeros(18)
        now[:3] = views.hand
        apart = views.right_claw - views.left_claw
        now[3] = min(max(math.sqrt(apart.dot(apart)) / 0.1, 0.0), 1.0)
        position = here._get_pos_objects()
        quaternion = self._get_quat_objects()
        now[4:7] = position[:3]
        now[7:11] = quaternion[:4]
        if len(position) == 6:
            now[11:14] = position[3:]
            now[14:18] = quaternion[4:]
        return now

    def _get_quat_objects(self) -> Any:
        matrix = self._views.matrix
        if matrix is None:
            return super()._get_quat_objects()  # type: ignore[misc]
        # Second objects that have no quaternion in the package have zeros.
        return (*from_matrix(matrix), 0.0, 0.0, 0.0, 0.0)

    def get_endeff_pos(self) -> np.ndarray:
        hand: np.ndarray = self._views.hand
        return hand

    @property
    def tcp_center(self) -> np.ndarray:
        views = self._views
        middle: np.ndarray = (views.right_finger + views.left_finger) / 2.0
        return middle

    def get_body_com(self, body_name: str) -> np.ndarray:
        view = self._views.body.get(body_name)
        if view is None:
            view = self._views.body[body_name] = np.asarray(self.data.body(body_name).xpos)
        return view

    def _get_site_pos(self, site_name: str) -> np.ndarray:
        view: np.ndarray | None = self._views.site.get(site_name)
        if view is None:
            view = self._views.site[site_name] = np.asarray(self.data.site(site_name).xpos)
        return view.copy()

    def touching_object(self, object_geom_id: int) -> bool:
        data = self.data
        contact = data.contact
        addresses: tuple[list[int], list[int]] = ([], [])
        starts = None
        for number, pair in enumerate(contact.geom.tolist()):
            if object_geom_id in pair:
                for pad, found in zip(self._views.pads, addresses, strict=True):
                    if pad in pair:
                        if starts is None:
                            starts = contact.efc_address.tolist()
                        found.append(starts[number])
        left, right = addresses
        if not left or not right:
            return False
        force = data.efc_force
        return bool(sum(force[at] for at in left) > 0 and sum(force[at] for at in right) > 0)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        del seed, options
        here: Any = self
        here.curr_path_length = 0
        try:
            if self._fast_name in TWICE:
                # What shows is where the first time put things in the model, which does not depend
                # on how the hand got to where it is.
                mujoco.mj_resetData(self.model, self.data)
                self._settling = "remember"
                here.reset_model()
            elif not here._freeze_rand_vec:
                # Only its random draws show.
                self._settling = "never"
                here.reset_model()
            mujoco.mj_resetData(self.model, self.data)
            self._settling = "remember"
            observation = here.reset_model()
        finally:
            self._settling = "every time"
        here._prev_obs = observation[:18].copy()
        observation[18:36] = here._prev_obs
        return observation, {}

    def _reset_hand(self, steps: int = 50) -> None:
        # With no steps it only notes where the hand is.
        settle: Any = super()._reset_hand  # type: ignore[misc]
        match self._settling:
            case "never":
                settle(steps=0)
            case "every time":
                settle(steps=steps)
            case _:
                key = self._settling_key(steps)
                settled = self._settled.get(key)
                if settled is None:
                    settle(steps=steps)
                    self._settled[key] = Snapshot.of(self.model, self.data)
                    if len(self._settled) > _SETTLED_AT_MOST:
                        self._settled.popitem(last=False)
                else:
                    self._settled.move_to_end(key)
                    settled.put(self.model, self.data)
                    settle(steps=0)

    def _settling_key(self, steps: int) -> bytes:
        parts = [
            np.array([steps]),
            integration_state(self.model, self.data),
            self.hand_init_pos,  # type: ignore[attr-defined]
        ]
        if self._fast_name in TWICE:
            parts += [getattr(self.model, name) for name in MODEL_EDITS]
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@functools.cache
def fast_class(package_name: str) -> Any:
    """Return the fast subclass of the package's class for a task such as pick-place-v3."""
    original = ALL_V3_ENVIRONMENTS[package_name]
    # Settled states are shared by all lanes of the task in this process.
    own = {"_fast_name": package_name, "_settled": OrderedDict()}
    return type(original.__name__, (_Fast, original), own)


# A compiled model takes some 15 MB; these are enough for MT10.
@functools.lru_cache(maxsize=16)
def _compiled(path: str, width: int, height: int) -> mujoco.MjModel:
    model = mujoco.MjModel.from_xml_path(path)
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    return model
