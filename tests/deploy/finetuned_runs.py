"""Pre-trained runs for the tests of fine-tuning: left on disk with weights drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from small_runs import new_run

from deploy.finetuning.parent import check, derived, initial_weights, open_parent
from deploy.local import LocalRun
from repertory import checkpoint
from repertory.config import RunConfig
from repertory.ports import State


def pretrained(root: Path, config: RunConfig, name: str = "parent") -> Path:
    """Leave a run with a checkpoint whose tensors, statistics included, are all different."""
    run = new_run(root, config, name)
    whole = LocalRun(config)
    state = whole.state()
    generator = np.random.default_rng(5)
    for tensors in networks_of(state["learner"]).values():
        for array in tensors.values():
            if array.dtype.kind == "f":
                array += generator.normal(0.0, 0.3, array.shape).astype(array.dtype)
        if "value.mu" in tensors:
            tensors["value.sigma"][:] = np.abs(tensors["value.sigma"]) + 0.5
            tensors["value.nu"][:] = tensors["value.sigma"] ** 2 + tensors["value.mu"] ** 2
    checkpoint.save(run.checkpoints, state, 600, keep=1)
    whole.close()
    return run.path


def networks_of(learner: State) -> dict[str, dict[str, Any]]:
    """Return the tensors of every network in a learner's state, to be read or written."""
    if "network" in learner:
        return {"network": learner["network"]["tensors"]}
    return {name: network["tensors"] for name, network in learner["networks"].items()}


def learner_of(path: Path) -> State:
    """Return the learner's state in the newest checkpoint of a run."""
    state, _, _ = checkpoint.load_latest(path / "checkpoints", only=("learner",))
    learner: State = state["learner"]
    return learner


def child_config(path: Path, *tasks: str, **changes: Any) -> RunConfig:
    """Return the checked config of a run that fine-tunes the one at `path`."""
    choices = {name: changes.pop(name) for name in ("reuse", "masks") if name in changes}
    weights = changes.pop("weights", True)
    parent = open_parent(path, weights=weights)
    base = derived(parent, tasks, **({"reuse": "all"} | choices))
    config = RunConfig.model_validate(base.model_dump() | changes)
    check(config, parent)
    return config


def begun(config: RunConfig) -> LocalRun:
    """Return a run before its first round, with its initial weights."""
    return LocalRun(config, (), initial_weights(config))
