"""Ray's form of our actors' classes: one for each class, however often its actors are replaced."""

from __future__ import annotations

from functools import cache
from typing import Any

import ray


@cache
def remote_class(kind: type) -> Any:
    """Return what `options` and `remote` are called on to start actors of a class.

    `ray.remote` makes a new class each time, which the driver keeps for good (84 objects, 16 KiB)
    and sends to the cluster's head anew: with every replacement the driver would grow.
    """
    return ray.remote(kind)
