"""How often workers ended, and whether one did too often: what ends with its node, or because the
node was short of memory, may not be its own fault.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import ray

from deploy.cluster.faults import End
from repertory.config import RunConfig
from repertory.errors import ClusterFailure

NODE_S = 30.0
"""A worker's end is known some seconds before its node's: so long it is in doubt whose it was."""
MEMORY_S = 3600.0
"""Where memory is short Ray kills the youngest, whoever has taken it: in a run of days the same
worker may be it any number of times. Too often within an hour, and the node is too small.
"""


@dataclass(frozen=True, slots=True)
class _Noted:
    node: str
    counts_until: float
    """In monotonic time."""


class WorkerEnds:
    """Ends by worker, with the node that each was on; those on nodes that are gone do not count,
    and those for want of memory count for an hour.
    """

    def __init__(self, config: RunConfig) -> None:
        self._allowed = config.actors.max_restarts
        # In a cluster of the run's own the driver is on the one node there is.
        self._doubted_s = NODE_S if config.address else 0.0
        self._ends: dict[int, list[_Noted]] = {}
        self._doubted: dict[int, tuple[float, str]] = {}
        self.count = 0
        """Of all workers, with those that went with their nodes."""

    def note(self, worker: int, node: str, end: End) -> None:
        """Note the end of a worker on the node of this id, or "" for one that was on none."""
        self.count += 1
        now = time.monotonic()
        until = now + MEMORY_S if end.for_memory else math.inf
        counted = [noted for noted in self._ends.get(worker, []) if noted.counts_until > now]
        self._ends[worker] = [*counted, _Noted(node, until)]
        if len(self._ends[worker]) > self._allowed:
            self._doubted.setdefault(worker, (now + self._doubted_s, end.reason))

    def check(self) -> None:
        """Forget what went with nodes that are gone since.

        Raises:
            ClusterFailure: a worker was replaced `actors.max_restarts` times and died again.
        """
        if not self._doubted:
            return
        gone = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
        for worker, (until, reason) in list(self._doubted.items()):
            self._ends[worker] = [noted for noted in self._ends[worker] if noted.node not in gone]
            ends = len(self._ends[worker])
            if ends <= self._allowed:
                del self._doubted[worker]
            elif time.monotonic() >= until:
                raise ClusterFailure(
                    f"worker {worker} was replaced {ends - 1} times and died again ({reason})"
                )
