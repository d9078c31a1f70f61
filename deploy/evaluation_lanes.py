"""The environments of an evaluation: trained or unseen tasks, under the protocol for scores, and
numbered as the trained network knows them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from envs.registry import make_lanes, task_specs
from repertory.config import AtariConfig, MetaworldConfig, RunConfig
from repertory.errors import BadInput
from repertory.types import TaskSpec

if TYPE_CHECKING:
    from actors.evaluator import MakeLane
    from repertory.ports import Lanes


def evaluation_environment(config: RunConfig) -> RunConfig:
    """Return the run with the evaluation's protocol: raw rewards, whole games, all else as
    trained.
    """
    match config.environment:
        case AtariConfig() as atari:
            whole = atari.model_copy(update={"clip_rewards": False, "life_loss_ends": False})
            return config.model_copy(update={"environment": whole})
        case MetaworldConfig() as metaworld:
            # Success is any step's; returns compare only over whole episodes.
            whole_episodes = metaworld.model_copy(update={"success_ends": False})
            return config.model_copy(update={"environment": whole_episodes})
        case _:
            return config


def evaluation_lane(config: RunConfig, tasks: Sequence[TaskSpec], seed: int) -> MakeLane:
    """Return a maker of single evaluation lanes, each episode seeded by its task's name and
    number.
    """
    environment = evaluation_environment(config).environment

    def make(position: int, episode: int) -> Lanes:
        path = ("evaluation", tasks[position].name, episode)
        return make_lanes(
            environment, tasks, [position], seed=seed, path=path, run_seed=config.seed
        )

    return make


def specs_like_training(
    config: RunConfig, names: Sequence[str], known: Sequence[TaskSpec]
) -> tuple[TaskSpec, ...]:
    """Return tasks as the network of the tasks `known` plays them; unseen ones come past its last.

    Specs are made together with the training tasks', so that the action set is the network's own
    (the full 18 when training mixed games) also where a single task would choose fewer actions.

    Raises:
        BadInput: a task needs another action set or sees other observations.
    """
    training = [task.name for task in known]
    unseen = [name for name in names if name not in training]
    together = task_specs([*training, *unseen], config.environment, config.algorithm.discount)
    if together[0].action != known[0].action or together[0].observation != known[0].observation:
        raise BadInput(
            f"{', '.join(unseen)} cannot be played by this network: it was built for "
            f"{known[0].action.size} actions and these tasks together need "
            f"{together[0].action.size}"
        )
    by_name = {task.name: task for task in together}
    return with_index([by_name[name] for name in names], known)


def with_index(tasks: Sequence[TaskSpec], known: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
    """Return `tasks` numbered as the network knows them; unseen ones get numbers past its last."""
    numbers = {task.name: task.index for task in known}
    unseen = len(known)
    numbered = []
    for task in tasks:
        index = numbers.get(task.name)
        if index is None:
            index = unseen
            unseen += 1
        numbered.append(dataclasses.replace(task, index=index))
    return tuple(numbered)
