"""Parts of a simulation's state that are held on to, not looked up by name at every step."""

from __future__ import annotations

import functools
from typing import Any

import mujoco
import numpy as np


class FastData(mujoco.MjData):  # type: ignore[misc]
    """A simulation's data that hands out the same view each time it is asked for a name."""

    def __init__(self, model: mujoco.MjModel) -> None:
        super().__init__(model)
        look_up: Any = super()
        self.body = functools.cache(look_up.body)
        self.geom = functools.cache(look_up.geom)
        self.site = functools.cache(look_up.site)

    def forget_views(self) -> None:
        """Drop the kept views, after which nothing keeps the data from being freed.

        A view holds its data where the garbage collector cannot see it: together they would stay
        for good, 20 MB per simulation.
        """
        self.__dict__.clear()


class Views:
    """Arrays of one simulation that its every step reads; they stay where they are."""

    def __init__(self, data: Any) -> None:
        self.mocap = data.mocap_pos[0]
        self.mocap_quaternion = data.mocap_quat[0]
        self.control = data.ctrl
        self.hand = data.body("hand").xpos
        self.right_claw = data.body("rightclaw").xpos
        self.left_claw = data.body("leftclaw").xpos
        self.right_finger = data.site("rightEndEffector").xpos
        self.left_finger = data.site("leftEndEffector").xpos
        self.pads = (data.geom("leftpad_geom").id, data.geom("rightpad_geom").id)
        self.matrix: np.ndarray | None = None
        self.body: dict[str, np.ndarray] = {}
        self.site: dict[str, np.ndarray] = {}
        self.low = self.high = np.zeros(39)
