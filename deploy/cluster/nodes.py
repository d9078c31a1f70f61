"""Which nodes of a cluster suit which part: by the labels that our launch files give them.

Nodes for workers are labelled `role=actor`, those that a provider may take back
`ray.io/market-type=spot` besides; the learner's node is labelled `role=learner`. A part goes to
the first kind of node that has room, and to any node where none of its kind is. Which one the
learner and its replay share is chosen in `learner_places`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

SPOT = {"ray.io/market-type": "spot"}
LEARNERS = {"role": "learner"}
ON_HEAD = {"node:__internal_head__": 0.001}
"""Next to nothing of a resource that only the head's node has: Ray's way to ask for that node."""


def is_learners(node: dict[str, Any]) -> bool:
    """Whether a node, as `ray.nodes` tells of it, is labelled for learners."""
    return bool(LEARNERS.items() <= (node.get("Labels") or {}).items())


def is_head(node: dict[str, Any]) -> bool:
    """Whether a node, as `ray.nodes` tells of it, is the head's."""
    return bool(ON_HEAD.keys() <= node["Resources"].keys())


def may_be_learners(node: dict[str, Any], alive: Iterable[dict[str, Any]]) -> bool:
    """Whether a learner would rather be on this node than on another one of those `alive`."""
    with_cores = [other for other in alive if other["Resources"].get("CPU", 0.0) >= 1.0]
    best = [other for other in with_cores if is_learners(other)]
    best = best or [other for other in with_cores if is_head(other)] or with_cores
    return node in best


def suiting(role: Literal["actor", "learner"]) -> dict[str, Any]:
    """Return the options of a Ray actor that say where it would rather be."""
    wanted: list[dict[str, str]] = [{"role": role}, {}]
    if role == "actor":
        # Workers are what a run can lose: they go where nodes are cheap.
        wanted.insert(0, {"role": role, **SPOT})
    first, *others = wanted
    fallback = [{"label_selector": labels} for labels in others]
    return {"label_selector": first, "fallback_strategy": fallback}
