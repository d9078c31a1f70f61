"""How often workers ended, and whether one did too often: with its node is not its own fault."""

from __future__ import annotations

import time

import ray

from repertory.config import RunConfig
from repertory.errors import ClusterFailure

NODE_S = 30.0
"""A worker's end is known some seconds before its node's: so long it is in doubt whose it was."""


class WorkerEnds:
    """Ends by worker, with the node that each was on; those on nodes that are gone do not count."""

    def __init__(self, config: RunConfig) -> None:
        self._allowed = config.actors.max_restarts
        # In a cluster of the run's own the driver is on the one node there is.
        self._doubted_s = NODE_S if config.address else 0.0
        self._nodes: dict[int, list[str]] = {}
        self._doubted: dict[int, tuple[float, str]] = {}
        self.count = 0
        """Of all workers, with those that went with their nodes."""

    def note(self, worker: int, node: str, reason: str) -> None:
        """Note the end of a worker on the node of this id, or "" for one that was on none."""
        self.count += 1
        nodes = self._nodes.setdefault(worker, [])
        nodes.append(node)
        if len(nodes) > self._allowed:
            self._doubted.setdefault(worker, (time.monotonic() + self._doubted_s, reason))

    def check(self) -> None:
        """Forget what went with nodes that are gone since.

        Raises:
            ClusterFailure: a worker was replaced `actors.max_restarts` times and died again.
        """
        if not self._doubted:
            return
        gone = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
        for worker, (until, reason) in list(self._doubted.items()):
            self._nodes[worker] = [node for node in self._nodes[worker] if node not in gone]
            ends = len(self._nodes[worker])
            if ends <= self._allowed:
                del self._doubted[worker]
            elif time.monotonic() >= until:
                raise ClusterFailure(
                    f"worker {worker} was replaced {ends - 1} times and died again ({reason})"
                )
