"""Turns a part's state into named arrays and a JSON tree, and back, without loss and without
pickle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from repertory.ports import State

_DIRECT = frozenset(np.dtype(code).name for code in ("?", *"bhiq", *"BHIQ", "f2", "f4", "f8", "c8"))
"""What the arrays file stores under its own name; other plain types travel as their bytes."""


def flatten(state: State) -> tuple[dict[str, np.ndarray], Any]:
    """Return the arrays under their paths, and the tree with a placeholder for each of them.

    Paths are JSON pointers without the leading slash (RFC 6901), so keys may hold slashes.
    Raises TypeError with the path of a value that a checkpoint cannot hold.
    """
    if not isinstance(state, dict):
        raise TypeError(f"a state is a dict, not {type(state).__name__}")
    arrays: dict[str, np.ndarray] = {}
    return arrays, _encode(state, "", arrays)


def unflatten(tree: Any, arrays: Mapping[str, np.ndarray]) -> State:
    """Return the state that `flatten` took apart. Raises ValueError if an array is missing."""
    if not isinstance(tree, dict):
        raise ValueError(f"the tree is a {type(tree).__name__}, not a dict")
    return {_key(key): _decode(value, arrays) for key, value in tree.items()}


def _encode(value: object, path: str, arrays: dict[str, np.ndarray]) -> Any:
    match value:
        case None | bool() | str():
            return value
        case np.ndarray():
            return _encode_array(value, path, arrays)
        case int():
            return int(value)
        case float():
            # JSON has no word for these three; all other doubles survive their shortest decimal.
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        case list():
            return [_encode(part, _join(path, str(i)), arrays) for i, part in enumerate(value)]
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise TypeError(f"state at '{path}' has the key {key!r}; keys are strings")
            # A leading $ is doubled, so that no dictionary of a part can look like a placeholder.
            return {
                "$" + key if key.startswith("$") else key: _encode(part, _join(path, key), arrays)
                for key, part in value.items()
            }
        case _:
            raise TypeError(
                f"state at '{path}' is a {type(value).__name__}; a checkpoint holds dicts, lists, "
                "numpy arrays, str, int, float, bool and None"
            )


def _encode_array(array: np.ndarray, path: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    dtype = array.dtype
    if dtype.hasobject or dtype.fields is not None:
        raise TypeError(f"state at '{path}' is an array of {dtype}, which needs pickle to be saved")
    # np.ascontiguousarray would make one dimension of none; this keeps a scalar array a scalar.
    dense = np.asarray(array, order="C")
    if dtype.name in _DIRECT and dtype.isnative:
        arrays[path] = dense
        return {"$array": path}
    arrays[path] = np.frombuffer(dense.tobytes(), dtype=np.uint8)
    return {"$array": path, "$dtype": dtype.str, "$shape": list(array.shape)}


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    match value:
        case {"$float": str(text)}:
            return float(text)
        case {"$array": str(path)}:
            if path not in arrays:
                raise ValueError(f"array '{path}' is in the tree but not in the arrays file")
            return _decode_array(arrays[path], value)
        case dict():
            return {_key(key): _decode(part, arrays) for key, part in value.items()}
        case list():
            return [_decode(part, arrays) for part in value]
        case _:
            return value


def _decode_array(stored: np.ndarray, placeholder: Mapping[str, Any]) -> np.ndarray:
    """Return the array as it was; the placeholder has type and shape if it travelled as bytes."""
    if len(placeholder) == 1:
        return stored
    array: np.ndarray = np.frombuffer(stored.tobytes(), dtype=np.dtype(placeholder["$dtype"]))
    # A copy, because what views bytes cannot be written to.
    return array.reshape(tuple(placeholder["$shape"])).copy()


def _key(key: str) -> str:
    return key[1:] if key.startswith("$") else key


def _join(path: str, key: str) -> str:
    escaped = key.replace("~", "~0").replace("/", "~1")
    return f"{path}/{escaped}" if path else escaped
