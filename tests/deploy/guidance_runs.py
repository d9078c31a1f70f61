"""Plays the toy group guided, unguided and with the policy filter inverted; prints steps as JSON.

A program of its own: the checks of shapes that tests switch on in their process would double the
time that these runs take.
"""

from __future__ import annotations

import json
import math
import sys

import torch
from torch import Tensor

from actors.guidance import ctpg
from deploy.local import LocalRun
from repertory.recipes import get

GOAL = "pointmass/beyond"
EPISODES, SHARE = 20, 0.8
"""Reached: so large a share of so many latest training episodes got to the goal."""


def steps_to_goal(recipe: str, seed: int) -> float:
    """Train the recipe as it stands until the goal is reached and return the steps spent.

    Infinity where the budget is spent before.
    """
    config = get(recipe).config.model_copy(update={"seed": seed})
    run = LocalRun(config)
    goal = [task.name for task in run.tasks].index(GOAL)
    successes: list[bool] = []
    try:
        while run.experience.steps < config.total_steps:
            run.round()
            successes += [
                bool(episode.success)
                for episode in run.experience.drain_episodes()
                if episode.task == goal
            ]
            latest = successes[-EPISODES:]
            if len(latest) == EPISODES and sum(latest) >= SHARE * EPISODES:
                return float(run.experience.steps)
    finally:
        run.close()
    return math.inf


def inverted(comparable: Tensor, own: Tensor) -> Tensor:
    """Refuse what the policy filter lets pass, and let pass what it refuses."""
    return comparable < own.unsqueeze(-1)


def main(guided: int, others: int, first: int) -> None:
    """Print the steps to the goal of each kind of run, from seed `first` on.

    `guided` seeds are played with guidance, and `others` in each of the two other ways.
    """
    torch.set_num_threads(1)
    seeds, fewer = range(first, first + guided), range(first, first + others)
    found = {
        "guided": [steps_to_goal("pointmass-ctpg", seed) for seed in seeds],
        "unguided": [steps_to_goal("pointmass", seed) for seed in fewer],
    }
    ctpg.policy_filter = inverted
    found["inverted"] = [steps_to_goal("pointmass-ctpg", seed) for seed in fewer]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
