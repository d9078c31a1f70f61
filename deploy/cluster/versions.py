"""What the driver and the processes on other nodes have to agree on: our messages, and packages."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import metadata

import repertory
from repertory.errors import ClusterFailure
from repertory.protocol import release_of

log = logging.getLogger(__name__)

PROTOCOL = 3
"""Of what processes of a run send each other; it rises with every change of these messages."""
OURS = "repertory's protocol"
COMPARED = ("torch", "numpy", "ale-py", "gymnasium", "mujoco", "metaworld")
"""Others of these play or learn a little differently; Ray and Python are refused by Ray itself."""


def versions_here() -> dict[str, str]:
    """Return the versions in this process; what is not installed is left out."""
    found = {OURS: f"{PROTOCOL} (repertory {repertory.__version__})"}
    for name in COMPARED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class VersionCheck:
    """Compares the versions of other processes with the driver's; tells of each difference once."""

    def __init__(self) -> None:
        self._here = versions_here()
        self._told: set[tuple[str, str]] = set()

    def hear(self, what: str, node: str, versions: Mapping[str, str]) -> None:
        """Hear the versions of `what`, a worker or a learner, on the node of this address.

        Raises:
            ClusterFailure: it speaks another protocol.
        """
        ours, theirs = self._here[OURS], versions.get(OURS, "none yet")
        if theirs != ours:
            raise ClusterFailure(
                f"{what} on {node} has {OURS} {theirs}, the driver has {ours}: install the same "
                "repertory on every node"
            )
        for name, here in self._here.items():
            there = versions.get(name, "not installed")
            if release_of(there) != release_of(here) and (name, there) not in self._told:
                self._told.add((name, there))
                log.warning(
                    "%s on %s has %s %s, the driver has %s: what is played and learned may differ "
                    "(not said again of other nodes with it)",
                    *(what, node, name, there, here),
                )
