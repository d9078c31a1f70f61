"""Which nodes of a cluster suit which part: by the labels that our launch files give them.

Nodes for workers are labelled `role=actor`, those that a provider may take back
`ray.io/market-type=spot` besides; the learner's node is labelled `role=learner`. A part goes to
the first kind of node that has room, and to any node where none of its kind is.
"""

from __future__ import annotations

from typing import Any, Literal

SPOT = {"ray.io/market-type": "spot"}


def suiting(role: Literal["actor", "learner"]) -> dict[str, Any]:
    """Return the options of a Ray actor that say where it would rather be."""
    wanted: list[dict[str, str]] = [{"role": role}, {}]
    if role == "actor":
        # Workers are what a run can lose: they go where nodes are cheap.
        wanted.insert(0, {"role": role, **SPOT})
    first, *others = wanted
    fallback = [{"label_selector": labels} for labels in others]
    return {"label_selector": first, "fallback_strategy": fallback}
