"""Agents with planted policies, values and guides, and lanes whose rewards say who acted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from actors.control_policy import ControlPolicy
from actors.guidance import GuidedPolicy, guided_policy
from actors.policy import Policy
from actors.unroller import Unroller
from repertory.config import (
    GuideConfig,
    MetaworldConfig,
    NetworkConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.networks.control_agent import ControlAgent, build_agent
from repertory.networks.flat import to_vector
from repertory.ports import Lanes
from repertory.seeding import stream
from repertory.types import (
    ActionSpec,
    EpisodeRecord,
    ObservationSpec,
    StepResult,
    TaskSpec,
    Weights,
)

SIZE, ACTIONS = 5, 2


def box_tasks(count: int, *, size: int = SIZE, actions: int = ACTIONS) -> list[TaskSpec]:
    """Return tasks with vector observations and continuous actions."""
    spec, action = ObservationSpec((size,), "float32"), ActionSpec("box", actions)
    return [TaskSpec(index, f"task{index}", spec, action, 0.99) for index in range(count)]


def guided_config(
    algorithm: str = "sac",
    *,
    heads: str = "per_task",
    conditioning: str = "none",
    layers: int = 1,
    hidden: int = 8,
    exploration: str = "policy",
    **guide: Any,
) -> RunConfig:
    """Return the configuration of a small off-policy run."""
    settings = {"block": "none", "filter_from": 0, "step": 4, **guide}
    kind = SacConfig if algorithm == "sac" else Td3Config
    return RunConfig(
        environment=MetaworldConfig(),
        network=NetworkConfig(
            torso="mlp", layers=layers, hidden=hidden, heads=heads, conditioning=conditioning
        ),
        algorithm=kind(exploration=exploration, guide=GuideConfig(**settings)),
    )


def control(
    config: RunConfig, tasks: int, *, seed: int = 3, version: int = 1, greedy: bool = False
) -> ControlPolicy:
    """Return a policy whose weights have been loaded once."""
    agent = build_agent(box_tasks(tasks), config, seed)
    policy = ControlPolicy(agent, config, stream(seed, "policy"), greedy=greedy)
    policy.load(weights_of(agent, version))
    return policy


def weights_of(agent: ControlAgent, version: int, guided: Sequence[bool] | None = None) -> Weights:
    """Return what an agent would publish."""
    mask = None if guided is None else np.array(guided)
    return Weights(version, to_vector(agent), mask)


def guided(config: RunConfig, tasks: int = 3, **how: Any) -> tuple[ControlPolicy, GuidedPolicy]:
    """Return a guided policy and the control policy that it acts with."""
    own = control(config, tasks, **how)
    policy = guided_policy(own, config, own.generator)
    assert isinstance(policy, GuidedPolicy)
    return own, policy


def unroller_of(policy: Policy, lanes: Lanes, length: int) -> Unroller:
    """Return an unroller of one group of lanes."""
    return Unroller([(lanes, policy)], box_tasks(3), length=length, worker=0, incarnation=0)


@torch.no_grad()
def plant_constant_policies(agent: ControlAgent, means: Sequence[float]) -> None:
    """Make candidate j play means[j] in every action, almost surely."""
    agent.actor.head_weight.zero_()
    agent.actor.head_bias[:] = -30.0
    before_tanh = torch.atanh(torch.tensor(means))
    agent.actor.head_bias[0, :, 0, :ACTIONS] = before_tanh[:, None]


@torch.no_grad()
def plant_guide(agent: ControlAgent, logits: Sequence[Sequence[float]]) -> None:
    """Make the guide of task i have logits[i] in every state."""
    assert agent.guide is not None
    agent.guide.head_weight.zero_()
    agent.guide.head_bias[0, :, 0] = torch.tensor(logits)


@torch.no_grad()
def plant_values(
    agent: ControlAgent, own: Sequence[Sequence[float]], comparable: Sequence[Any]
) -> None:
    """Make task i's twin critics own[c][i] and its candidates' worth comparable[c][i][j].

    Temperatures become so small that no entropy counts.
    """
    assert agent.critic is not None
    assert agent.comparable is not None
    agent.critic.head_weight.zero_()
    agent.critic.head_bias[:, :, 0, 0] = torch.tensor(own)
    agent.comparable.head_weight.zero_()
    agent.comparable.head_bias[:, :, 0] = torch.tensor(comparable)
    if agent.log_temperature is not None:
        agent.log_temperature.fill_(-60.0)


class RewardingLanes:
    """Lanes whose reward is how near the first action is to what their task wants.

    An environment of somebody else: lane l's episodes last `lengths[l]` steps, every second one is
    truncated. The observation is (task, episode, step, 0, 0).
    """

    def __init__(
        self, task: Sequence[int], lengths: Sequence[int], wanted: Sequence[float] = (0.0,) * 9
    ) -> None:
        self.task = np.array(task, np.int32)
        self._lengths = np.array(lengths)
        self._wanted = np.array(wanted, np.float32)[self.task]
        self._episode = np.zeros(len(task), np.int64)
        self._step = np.zeros(len(task), np.int64)
        self._over = np.zeros(len(task), np.bool_)
        self._return = np.zeros(len(task))

    def reset(self) -> np.ndarray:
        return self._observation()

    def _observation(self) -> np.ndarray:
        seen = np.zeros((len(self.task), SIZE), np.float32)
        seen[:, 0], seen[:, 1], seen[:, 2] = self.task, self._episode, self._step
        return seen

    def step(self, action: np.ndarray) -> StepResult:
        assert action.dtype == np.float32
        assert (np.abs(action) <= 1.0).all()
        started = self._over.copy()
        near = -np.abs(action[:, 0] - self._wanted).astype(np.float32)
        reward = np.where(started, np.float32(0.0), near)
        self._episode[started] += 1
        self._return = np.where(started, 0.0, self._return + reward)
        self._step = np.where(started, 0, self._step + 1)
        ended = ~started & (self._step == self._lengths)
        cut = ended & (self._episode % 2 == 1)
        self._over = ended
        return StepResult(
            observation=self._observation(),
            reward=reward,
            terminated=ended & ~cut,
            truncated=cut,
            valid=~started,
            started=started,
            episodes=tuple(
                EpisodeRecord(
                    int(self.task[lane]), float(self._return[lane]), int(self._lengths[lane])
                )
                for lane in np.flatnonzero(ended)
            ),
        )

    def state(self) -> dict[str, Any]:
        return {
            "episode": self._episode.copy(),
            "step": self._step.copy(),
            "over": self._over.copy(),
            "return": self._return.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._episode = np.array(state["episode"])
        self._step = np.array(state["step"])
        self._over = np.array(state["over"])
        self._return = np.array(state["return"])

    def close(self) -> None:
        pass
