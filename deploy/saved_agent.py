"""A trained agent as it is taken from a checkpoint of a run or from an exported folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repertory import checkpoint
from repertory.errors import BadInput
from repertory.masks import PackedMasks, masks_from_state
from repertory.types import Weights, weights_from_state

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class SavedCritic:
    """Twin critics that acting needs not, and that therefore do not travel with the weights."""

    tensors: Mapping[str, np.ndarray]
    masks: PackedMasks | None = None


@dataclass(frozen=True, slots=True)
class SavedAgent:
    """What plays, and what can say how good a moment is."""

    weights: Weights
    env_steps: int
    """Agent steps it was trained for."""
    source: str
    """Name of the checkpoint, or of the one it was exported from."""
    critic: SavedCritic | None = None
    """Where the weights hold no critic and one was asked for."""
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    """PopArt's in their own float64, which weights, being float32, round."""


def saved_agent(
    run: RunDirectory, checkpoint_path: Path | None = None, *, with_critic: bool = False
) -> SavedAgent:
    """Return the agent of a checkpoint, the newest good one by default, or of an export.

    With `with_critic`, what only the learner has comes too: critics, and statistics unrounded.

    Raises:
        BadInput: there is none, it is damaged, or a checkpoint is named of an export.
    """
    from deploy.export.folder import is_exported, read_agent

    if is_exported(run.path):
        if checkpoint_path is not None:
            raise BadInput(f"{run.path} is an exported agent, which has no checkpoints to choose")
        return read_agent(run.path)
    parts = ["weights", "counters", *(["learner"] if with_critic else [])]
    if checkpoint_path is None:
        state, path, _ = checkpoint.load_latest(run.checkpoints, only=parts)
    else:
        path = checkpoint_path
        state = checkpoint.load(path, only=parts)
    return SavedAgent(
        weights_from_state(state["weights"]),
        int(state["counters"]["env_steps"]),
        path.name,
        critic_of(state["learner"]) if with_critic else None,
        _statistics(state["learner"]) if with_critic else {},
    )


def _statistics(learner: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a network's arrays of float64."""
    tensors = learner.get("network", {}).get("tensors", {})
    return {name: array for name, array in tensors.items() if array.dtype == np.float64}


def critic_of(learner: Mapping[str, Any]) -> SavedCritic | None:
    """Return the critic that a learner keeps to itself, out of its state; None without one."""
    saved = learner.get("networks", {}).get("critic")
    if saved is None:
        return None
    masks = (learner.get("masks") or {}).get("critic")
    return SavedCritic(
        saved["tensors"], None if masks is None else masks_from_state(masks["masks"])
    )
