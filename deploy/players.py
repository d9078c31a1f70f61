"""Who plays in evaluations and films."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from actors.policy import Policy, RandomPolicy
from deploy import build
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
