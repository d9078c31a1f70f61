"""Pictures of a simulation, drawn without a display where that is possible."""

from __future__ import annotations

import os
from typing import Any

import mujoco
import numpy as np

from envs.offscreen import open_renderer
from repertory.errors import BadInput

_CAMERA = "corner2"


class Picture:
    """Draws one simulation."""

    def __init__(self, model: Any, height: int, width: int) -> None:
        """Open a canvas of this many pixels.

        Raises:
            BadInput: there is no way to draw on this machine.
        """
        self.size = (height, width)
        try:
            _find_library()
            self._renderer = open_renderer(model, height, width)
        except Exception as error:
            raise BadInput(
                "Meta-World cannot be drawn here: set MUJOCO_GL=egl (needs libegl1 and Mesa or a "
                "GPU's driver) or MUJOCO_GL=osmesa (needs libosmesa6) before the start "
                f"({error})."
            ) from error

    def draw(self, data: Any) -> np.ndarray:
        """Return the scene as it is, uint8 [height, width, 3]."""
        self._renderer.update_scene(data, camera=_CAMERA)
        # This camera hangs upside down in the package's scenes.
        return np.ascontiguousarray(self._renderer.render()[::-1, ::-1])

    def close(self) -> None:
        """Free the canvas."""
        self._renderer.close()


def _find_library() -> None:
    # The simulator decides when it is first imported, and without MUJOCO_GL for a display.
    if os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY"):
        return
    # Only here: the import fails where the library is missing, and training does without.
    from mujoco.egl import GLContext

    mujoco.gl_context.GLContext = GLContext
