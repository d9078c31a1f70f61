"""Exact copies of a simulation's state, to the last bit of the solver's warm start.

Axes: S numbers of MuJoCo's integration state, B bodies.
"""

from __future__ import annotations

import mujoco
import numpy as np

# What a step leaves for readers before the next one; everything else it computes anew from the
# integration state (positions, velocities, controls, mocap bodies, warm start, time).
POSES = (
    "xpos",
    "xquat",
    "xmat",
    "xipos",
    "ximat",
    "geom_xpos",
    "geom_xmat",
    "site_xpos",
    "site_xmat",
    "cam_xpos",
    "cam_xmat",
    "light_xpos",
    "light_xdir",
)
MODEL_EDITS = ("body_pos", "body_quat", "geom_pos", "site_pos")
"""What resets move around in the model: boxes, drawers, goals."""

_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def integration_state(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Return what the next step depends on, float64 [S]."""
    state = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, state, _STATE)
    return state


class Snapshot:
    """The state of a simulation and the poses it shows, apart from the model."""

    __slots__ = ("poses", "state")

    def __init__(self, state: np.ndarray, poses: tuple[np.ndarray, ...]) -> None:
        """Hold an integration state, [S], and one array for each of POSES."""
        self.state = state
        self.poses = poses

    @classmethod
    def of(cls, model: mujoco.MjModel, data: mujoco.MjData) -> Snapshot:
        """Copy the present state."""
        poses = tuple(np.array(getattr(data, name)) for name in POSES)
        return cls(integration_state(model, data), poses)

    def put(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Write it into `data`, into the arrays that are there."""
        mujoco.mj_setState(model, data, self.state, _STATE)
        for name, saved in zip(POSES, self.poses, strict=True):
            getattr(data, name)[...] = saved
