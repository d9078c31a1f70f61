"""Where a learner and its replay stand in a cluster: on one node, for every batch goes from the one
to the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from deploy.cluster import nodes
from repertory.config import RunConfig

log = logging.getLogger(__name__)

ROOM_S = 10.0
"""So long a node is waited for that could hold both and is not free: the cores of a learner that
was killed a moment ago are given back within seconds.
"""


def gpus_of_each(config: RunConfig) -> int:
    """Return how many GPUs each learner of a run takes, as the cluster is now."""
    if config.learner.device == "cpu":
        return 0
    return int(config.learner.device == "cuda" or _gpus_there() >= config.learner.count)


def warn_of_missing_gpus(config: RunConfig, gpus: int) -> None:
    """Say that learners which take `gpus` each wait for them: a node that had some may be gone."""
    wanted, there = gpus * config.learner.count, _gpus_there()
    if wanted > there:
        log.warning(
            "the run began with %d GPU(s) for its learner(s) and the cluster has %d now: it waits "
            "for a node that has them; to go on without, stop it and resume it with "
            "--learner.device cpu",
            wanted,
            there,
        )


def _gpus_there() -> int:
    return int(ray.cluster_resources().get("GPU", 0))


class LearnerPlaces:
    """Room for one learner after another, held until `give_back`.

    Each takes a core and `gpus`, and a core more for a replay where it has one (`apart`). It goes
    to a node labelled `role=learner`; where no such node is, to the head's node, which the driver
    that watches and saves is on; and where neither has the room, to any node that has it.
    """

    def __init__(self, gpus: int, *, apart: bool) -> None:
        self._bundles = [{"CPU": 1.0, "GPU": float(gpus)} if gpus else {"CPU": 1.0}]
        if apart:
            self._bundles.append({"CPU": 1.0})
        self._held: list[PlacementGroup] = []

    def next(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the options of a learner's Ray actor, and those of its replay's."""
        for bundles, labels in self._ways():
            group = placement_group(
                bundles, strategy="STRICT_PACK", bundle_label_selector=[labels] * len(bundles)
            )
            if group.wait(ROOM_S):
                self._held.append(group)
                learner, replay = (
                    {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, bundle)}
                    for bundle in (0, len(bundles) - 1)
                )
                return learner, replay
            remove_placement_group(group)
        if len(self._bundles) > 1:
            log.warning(
                "no node has two cores free for a learner and its replay: they may come to be on "
                "different nodes, and every batch goes through the network"
            )
        return nodes.suiting("learner"), nodes.suiting("learner")

    def _ways(self) -> Iterator[tuple[list[dict[str, float]], dict[str, str]]]:
        """Yield what to ask for, and of which labels, best first: only what a node could hold."""
        holding = [node for node in ray.nodes() if node["Alive"] and self._could_hold(node)]
        if any(nodes.is_learners(node) for node in holding):
            yield self._bundles, nodes.LEARNERS
        elif any(nodes.is_head(node) for node in holding):
            first, *others = self._bundles
            yield [first | nodes.ON_HEAD, *others], {}
        if holding:
            yield self._bundles, {}

    def _could_hold(self, node: dict[str, Any]) -> bool:
        return all(
            node["Resources"].get(name, 0.0) >= sum(part.get(name, 0.0) for part in self._bundles)
            for name in ("CPU", "GPU")
        )

    def give_back(self) -> None:
        """Hold no room any more: whatever still stands there ends."""
        for group in self._held:
            remove_placement_group(group)
        self._held.clear()
