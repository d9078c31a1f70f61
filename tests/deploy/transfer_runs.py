"""Runs for the tests of transfer: an expert set by hand, and a run on one task that it guides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from off_policy_runs import pointmass_config
from small_runs import new_run

from deploy.local import LocalRun
from envs.point_mass import GAP
from repertory import checkpoint
from repertory.config import (
    ActorConfig,
    GuideConfig,
    NetworkConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)

OWN, EXPERT = 0, 1
EXPERT_NETWORK = NetworkConfig(torso="mlp", hidden=6, layers=1, heads="per_task")


def algorithm(kind: str, guide: GuideConfig) -> SacConfig | Td3Config:
    settings: dict[str, Any] = {"exploration_steps": 20, "exploration": "policy", "guide": guide}
    return SacConfig(**settings) if kind == "sac" else Td3Config(**settings)


def expert_run(
    root: Path, *, kind: str = "sac", name: str = "door", saved: bool = True, **changes: Any
) -> Path:
    """Leave a run on `door` whose policy was set by hand: it goes to the gap and stays there."""
    settings: dict[str, Any] = {"tasks": ("pointmass/door",), "network": EXPERT_NETWORK}
    settings |= changes
    config = pointmass_config(algorithm(kind, GuideConfig()), saved=False, **settings)
    run = new_run(root, config, name)
    whole = LocalRun(config)
    agent = whole.learner._update.agent  # type: ignore[attr-defined]
    with torch.no_grad():
        actor = agent.actor
        for tensor in actor.parameters():
            tensor.zero_()
        # Hidden units x + 1 and y + 1, which are never negative in the room.
        actor.weights[0][0, :2, :2] = torch.eye(2)
        actor.biases[0][0, 0, :2] = 1.0
        gain = 5.0
        for axis in range(2):
            actor.head_weight[:, :, axis, axis] = -gain
            actor.head_bias[:, :, 0, axis] = gain * (1.0 + GAP[axis])
        if kind == "sac":
            actor.head_bias[:, :, 0, 2:] = -1.5
    if saved:
        checkpoint.save(run.checkpoints, whole.state(), 10, keep=1)
    whole.close()
    return run.path


def student_config(expert: Path, *, kind: str = "sac", **changes: Any) -> RunConfig:
    """A run on `beyond` alone, guided by the expert's policy too."""
    guide = {"kind": "ctpg", "step": 3, "policy_filter": "off", "block": "none"}
    guide |= changes.pop("guide", {})
    settings: dict[str, Any] = {
        "tasks": ("pointmass/beyond",),
        "actors": ActorConfig(count=1, lanes=4, precision="fp32"),
    }
    taught = algorithm(kind, GuideConfig(experts=(str(expert),), **guide))
    return pointmass_config(taught, **({"saved": False} | settings | changes))
