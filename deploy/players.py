"""Who plays in evaluations and films, and the tasks as the trained network knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from actors.policy import Policy, RandomPolicy
from deploy import build
from deploy.evaluation_lanes import with_index
from envs.registry import task_specs
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.types import TaskSpec, Weights

PolicyName = Literal["greedy", "sampled", "random", "guided"]
"""guided plays as rollout workers do, with the guide's choice of whose policy acts."""


def player(
    config: RunConfig,
    known: Sequence[TaskSpec],
    weights: Weights | None,
    name: str,
    generator: np.random.Generator,
) -> Policy:
    """Return a policy that plays with a run's weights; `random` needs none.

    Raises:
        BadInput: there is no such policy, or it needs what this run has not.
    """
    if name == "random":
        return RandomPolicy(known[0].action, generator)
    if name not in ("greedy", "sampled", "guided"):
        raise BadInput(f"unknown policy '{name}'; allowed: greedy, sampled, random, guided")
    if weights is None:
        raise BadInput(f"the {name} policy needs weights")
    guided = name == "guided"
    if guided and build.guide_of(config) is None:
        raise BadInput("the guided policy needs a run with a guide, and this one has none")
    policy = build.acting_policy(config, known, generator, greedy=name == "greedy", guided=guided)
    policy.load(weights)
    return policy


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
