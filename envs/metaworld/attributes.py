"""The plain Python attributes of an environment of the package, saved and put back exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.metaworld.snapshot import MODEL_EDITS, POSES
from repertory.ports import State

# Some attributes are windows on the simulation's memory and must be that again.
_SHARED = {"data": (*POSES, "qpos", "qvel", "mocap_pos"), "model": MODEL_EDITS}


def save(environment: Any) -> State:
    """Return every number, array of numbers and None that the environment holds in an attribute."""
    saved: State = {}
    for name, value in vars(environment).items():
        match value:
            case np.ndarray():
                saved[name] = _shared(environment, value) or {"array": value.copy()}
            case np.generic():
                # An array of no dimensions: a numpy number and Python's promote types differently.
                saved[name] = {"number": np.array(value)}
            case None | bool() | int() | float():
                saved[name] = {"plain": value}
    return saved


def put(environment: Any, saved: State) -> None:
    """Set the attributes of `save`; those that it left out stay as they are."""
    own = vars(environment)
    for name, entry in saved.items():
        match entry:
            case {"array": value}:
                own[name] = np.array(value)
            case {"number": value}:
                own[name] = np.asarray(value)[()]
            case {"owner": owner, "field": field, "start": start, "shape": shape}:
                flat = getattr(own[owner], field).reshape(-1)
                count = int(np.prod(shape, dtype=np.int64))
                own[name] = flat[start : start + count].reshape(shape)
            case {"plain": value}:
                own[name] = value
            case _:
                raise ValueError(f"the saved attribute '{name}' is damaged")


def _shared(environment: Any, value: np.ndarray) -> State | None:
    """Return which window on the simulation `value` is, if it is one."""
    if value.base is None or value.dtype != np.float64 or not value.flags.c_contiguous:
        return None
    for owner, fields in _SHARED.items():
        for field in fields:
            whole = getattr(vars(environment)[owner], field)
            start = value.ctypes.data - whole.ctypes.data
            if 0 <= start < whole.nbytes:
                start //= value.itemsize
                return {"owner": owner, "field": field, "start": start, "shape": list(value.shape)}
    return None
