"""Pictures of MuJoCo worlds on machines without a display."""

from __future__ import annotations

import os
from ctypes.util import find_library
from importlib import import_module
from typing import Any

import mujoco
import numpy as np

from repertory.errors import BadInput

_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
_REMEDY = (
    "Install EGL (apt install libegl1 libgl1-mesa-dri) and set MUJOCO_GL=egl, or OSMesa "
    "(apt install libosmesa6) and set MUJOCO_GL=osmesa."
)


class _Renderer(mujoco.Renderer):  # type: ignore[misc]
    """mujoco's; one whose making failed half way has nothing to free, and says nothing."""

    _gl_context: Any = None
    _mjr_context: Any = None


class Camera:
    """Draws one model from one of its cameras."""

    def __init__(self, model: mujoco.MjModel, camera: str, *, height: int, width: int) -> None:
        """Open a renderer of `height` by `width` pixels.

        Raises:
            BadInput: neither EGL nor OSMesa works here.
        """
        platform = _platform()
        try:
            # mujoco chooses when it is imported, and importing it with MUJOCO_GL=egl fails where
            # there is no EGL; so the choice is left until something is drawn.
            mujoco.gl_context.GLContext = import_module(f"mujoco.{platform}").GLContext
            self._renderer = _Renderer(model, height, width)
        # Each platform fails in its own ways, AttributeError among them.
        except Exception as error:
            raise BadInput(
                f"cannot draw with {platform} ({type(error).__name__}: {error}). {_REMEDY}"
            ) from error
        # Without shadows and reflections a picture costs a quarter on a CPU.
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._camera = camera

    def picture(self, data: mujoco.MjData) -> np.ndarray:
        """Draw the world as `data` has it, uint8 [height, width, 3]."""
        self._renderer.update_scene(data, self._camera)
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Free the graphics context."""
        self._renderer.close()


def _platform() -> str:
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked in _LIBRARIES:
        return asked
    for platform, library in _LIBRARIES.items():
        if find_library(library) is not None:
            return platform
    raise BadInput(f"cannot draw: neither EGL nor OSMesa is on this machine. {_REMEDY}")
