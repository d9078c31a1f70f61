"""An exported agent for programs of one's own: its settings, lanes of its tasks, and its actions.

Axes: L lanes (here always one).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from actors.stacking import RollingStack
from deploy import build
from deploy.evaluation_lanes import (
    evaluation_environment,
    evaluation_lane,
    specs_like_training,
)
from deploy.export.folder import open_agent, read_agent
from deploy.players import PolicyName, player
from deploy.saved_agent import SavedAgent
from envs.registry import resolve, training_tasks
from repertory.config import RunConfig
from repertory.ports import Lanes
from repertory.seeding import stream
from repertory.types import TaskSpec

Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(observation [L, *shape], whether an episode starts with it [L]) -> action of each lane."""


class ExportedAgent:
    """What is in an exported folder, ready to play."""

    def __init__(self, config: RunConfig, protocol: dict[str, Any], saved: SavedAgent) -> None:
        self.config, self.protocol, self.saved = config, protocol, saved

    @classmethod
    def open(cls, path: str | Path) -> ExportedAgent:
        """Read a folder that `repertory export` wrote.

        Raises:
            BadInput: it is none, or a file is not what was written.
        """
        run = open_agent(Path(path))
        config, protocol = run.read_config()
        return cls(config, protocol, read_agent(run.path))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that it was trained on."""
        return training_tasks(self.config)

    def lanes(self, task: str, seed: int | None = None, episode: int = 0) -> Lanes:
        """Return one environment of a task, under the protocol that evaluations are played by.

        By default the first episode of the run's own evaluations.
        """
        seed = self.config.evaluation.seed if seed is None else seed
        return evaluation_lane(self.config, [self._spec(task)], seed)(0, episode)

    def acting(self, task: str, policy: PolicyName = "greedy", seed: int = 0) -> Act:
        """Return a function that plays one lane of a task; stacks and memory are its own affair."""
        spec = self._spec(task)
        known = build.tasks_of(self.config)
        generator = stream(seed, "evaluation", "policy", policy)
        chooser = player(self.config, known, self.saved.weights, policy, generator)
        stack = RollingStack(spec.observation, 1)
        index = np.array([spec.index], np.int32)
        recurrent = np.zeros((1, chooser.recurrent_size), np.float32)

        def act(observation: np.ndarray, started: np.ndarray) -> np.ndarray:
            nonlocal recurrent
            stack.push(observation, started)
            decision = chooser.act(stack.network_input, index, recurrent, started)
            recurrent = decision.recurrent
            return decision.action

        return act

    def _spec(self, task: str) -> TaskSpec:
        known = build.tasks_of(self.config)
        (name,) = resolve([task], self.config.environment)
        (spec,) = specs_like_training(evaluation_environment(self.config), [name], known)
        return spec
