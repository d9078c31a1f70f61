"""Small tasks, windows and guides that the tests of the guide share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learner.guide import GuideUpdate
from learner.replayed import TensorWindows
from repertory.config import (
    AlgorithmConfig,
    GuideConfig,
    LearnerConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.networks.control_agent import ControlAgent, build_agent, build_critic
from repertory.networks.task_mlp import TaskMlp
from repertory.types import ActionSpec, ObservationSpec, TaskSpec

ONE_HOT = NetworkConfig(torso="mlp", hidden=8, layers=2, conditioning="one_hot")
HEADS = NetworkConfig(torso="mlp", hidden=8, layers=2, heads="per_task")


def control_tasks(count: int, *, size: int = 3, actions: int = 2) -> list[TaskSpec]:
    """Return tasks with vector observations and a box of actions."""
    spec, action = ObservationSpec((size,), "float32"), ActionSpec("box", actions)
    return [TaskSpec(index, f"task{index}", spec, action, 0.99) for index in range(count)]


def sac(*, guide: dict[str, Any] | None = None, **settings: Any) -> SacConfig:
    """Return SAC with a guide."""
    return SacConfig(guide=GuideConfig(kind="ctpg", **(guide or {})), **settings)


def td3(*, guide: dict[str, Any] | None = None, **settings: Any) -> Td3Config:
    """Return TD3 with a guide."""
    return Td3Config(
        guide=GuideConfig(kind="ctpg", **{"block": "none", **(guide or {})}), **settings
    )


def config_of(
    algorithm: AlgorithmConfig, network: NetworkConfig = ONE_HOT, **optimiser: Any
) -> RunConfig:
    """Return a configuration in float32 on the CPU."""
    settings: dict[str, Any] = {
        "kind": "adam",
        "learning_rate": 1e-3,
        "epsilon": 1e-8,
        "clip_norm": 1.0,
        "anneal": "none",
    }
    return RunConfig(
        algorithm=algorithm,
        network=network,
        optimiser=OptimiserConfig(**{**settings, **optimiser}),
        learner=LearnerConfig(device="cpu", precision="fp32", nonfinite_limit=3),
    )


def guide_of(
    config: RunConfig, tasks: list[TaskSpec], seed: int = 1
) -> tuple[ControlAgent, TaskMlp, GuideUpdate]:
    """Return an agent, control critics and the guide's update."""
    agent = build_agent(tasks, config, seed)
    critic = agent.critic or build_critic(tasks, config.network)
    generator = torch.Generator().manual_seed(seed)
    return agent, critic, GuideUpdate(agent, config, tasks, torch.device("cpu"), generator)


def windows_of(
    tasks: list[TaskSpec], counts: list[int], *, steps: int = 4, seed: int = 0, poison: bool = False
) -> TensorWindows:
    """Return random windows, counts[i] of task i, of all lengths and with all kinds of ends.

    With `poison` everything beyond a window's own last observation is NaN, and 0 without.
    """
    random = np.random.default_rng(seed)
    count, size, actions = sum(counts), tasks[0].observation.shape[0], tasks[0].action.size
    length = random.integers(1, steps + 1, count)
    kind = random.integers(0, 3, count)
    beyond = np.nan if poison else 0.0
    held = np.arange(steps + 1)[:, None] < length
    seen = np.arange(steps + 1)[:, None] <= length

    def of(shape: tuple[int, ...], mask: np.ndarray, values: np.ndarray) -> torch.Tensor:
        mask = mask.reshape(mask.shape + (1,) * (len(shape) - 2))
        return torch.tensor(np.where(mask, values, beyond), dtype=torch.get_default_dtype())

    observation, action = (steps + 1, count, size), (steps, count, actions)
    return TensorWindows(
        task=torch.tensor(np.repeat(np.arange(len(tasks)), counts), dtype=torch.int32),
        guide=torch.tensor(random.integers(0, len(tasks), count), dtype=torch.int32),
        observation=of(observation, seen, random.normal(size=observation)),
        action=of(action, held[:steps], np.tanh(random.normal(size=action))),
        reward=of((steps, count), held[:steps], random.normal(size=(steps, count))),
        length=torch.tensor(length, dtype=torch.int32),
        terminated=torch.tensor(kind == 1),
        truncated=torch.tensor(kind == 2),
    )


def everything(agent: ControlAgent, guide: GuideUpdate) -> list[Tensor]:
    """Return copies of all that an update may change, targets included."""
    found: list[Tensor] = [p for p in agent.parameters()]
    for part in vars(guide.learned).values():
        if isinstance(part, nn.Module):
            found += part.parameters()
        elif isinstance(part, nn.Parameter):
            found.append(part)
    return [tensor.detach().clone() for tensor in found]


TASKS = control_tasks(3)
CASES = {
    "sac/code": config_of(sac(reward_scale=0.5), ONE_HOT),
    "sac/heads": config_of(sac(time_limit="terminal"), HEADS),
    "td3/code": config_of(td3(reward_scale=0.5), ONE_HOT),
}
