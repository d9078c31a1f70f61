"""Opens the earlier runs whose policies a guide lends (transfer, He et al. 2024, section 5.6).

At launch their directories are read once: what every process must know of them goes into the
config, their weights into the learner. A resumed run finds both in its own directory.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from deploy.build import tasks_of
from repertory import checkpoint
from repertory.config import ExpertConfig, GuideConfig, RunConfig, SacConfig, Td3Config
from repertory.errors import BadInput
from repertory.run_directory import RunDirectory
from repertory.types import TaskSpec

log = logging.getLogger(__name__)

_SETTING = "algorithm.guide.experts"
_ACTOR = "actor."


def with_experts(config: RunConfig) -> RunConfig:
    """Return the config with `expert_networks` read off the directories of `experts`.

    Raises:
        BadInput: one of them is not a run, has no good checkpoint, or does not fit this run.
    """
    guide = _guide(config)
    if not guide.experts and not guide.expert_networks:
        return config
    task = tasks_of(config)[0]
    found = tuple(_described(path, config, task) for path in guide.experts)
    names = [expert.name for expert in found]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(
                f"{_SETTING}: {names.count(name)} runs are called {name}, so that metrics could "
                "not tell their policies apart: name each once, or rename a directory"
            )
    opened = guide.model_copy(update={"expert_networks": found})
    algorithm = config.algorithm.model_copy(update={"guide": opened})
    return config.model_copy(update={"algorithm": algorithm})


def expert_arrays(config: RunConfig) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Return each expert's name and its actor's arrays, from its newest good checkpoint.

    Raises:
        BadInput: a directory that was there at launch is not any more.
    """
    guide = _guide(config)
    found = []
    for path, expert in zip(guide.experts, guide.expert_networks, strict=True):
        tensors, name = _actor_of(path)
        log.info("expert %s: %s of %s", expert.name, name, path)
        found.append((expert.name, tensors))
    return found


def _guide(config: RunConfig) -> GuideConfig:
    algorithm = config.algorithm
    return algorithm.guide if isinstance(algorithm, SacConfig | Td3Config) else GuideConfig()


def _described(path: str, config: RunConfig, task: TaskSpec) -> ExpertConfig:
    """Return what a run is as an expert of the run `config`, whose first task is `task`."""
    try:
        directory = RunDirectory.open(Path(path))
        theirs, _ = directory.read_config()
        tasks = tasks_of(theirs)
    except BadInput as error:
        raise BadInput(f"{_SETTING}: {error}") from error
    if theirs.algorithm.kind != config.algorithm.kind:
        raise BadInput(
            f"{_SETTING}: {path} is a run of {theirs.algorithm.kind}, whose policies cannot be "
            f"lent to one of {config.algorithm.kind}: choose a run of {config.algorithm.kind}"
        )
    if theirs.gradients.method == "harmony":
        raise BadInput(
            f"{_SETTING}: {path} is a run of gradients.method harmony, whose policies are nothing "
            "without their masks, which experts have not: choose a run without masks"
        )
    if (tasks[0].observation, tasks[0].action) != (task.observation, task.action):
        raise BadInput(
            f"{_SETTING}: {path} sees {_sizes(tasks[0])}, and this run {_sizes(task)}: "
            "a policy can only be lent between equal ones"
        )
    _actor_of(path)
    return ExpertConfig(
        name=directory.name,
        tasks=tuple(each.name for each in tasks),
        network=theirs.network,
    )


def _sizes(task: TaskSpec) -> str:
    return f"{task.observation.shape[0]} numbers and plays {task.action.size}"


def _actor_of(path: str) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays of a run's actor by name, and its checkpoint's name."""
    directory = RunDirectory(Path(path).expanduser())
    try:
        state, found, _ = checkpoint.load_latest(directory.checkpoints, only=("learner",))
    except BadInput as error:
        raise BadInput(f"{_SETTING}: {error}") from error
    tensors: dict[str, Any] = state["learner"]["networks"]["agent"]["tensors"]
    arrays = {
        name.removeprefix(_ACTOR): array
        for name, array in tensors.items()
        if name.startswith(_ACTOR)
    }
    return arrays, found.name
