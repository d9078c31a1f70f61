"""The network of all tasks: torso, task conditioning, memory, policy head and value head.

Axes: L lanes, T1 = T + 1 steps, B columns, H observations of history, R recurrent state,
F features, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8
from torch import Tensor, nn

from repertory.config import NetworkConfig
from repertory.errors import BadInput
from repertory.networks.conditioning import TaskConditioning
from repertory.networks.heads import PolicyHead, ValueHead
from repertory.networks.layers import initialise
from repertory.networks.recurrence import Lstm
from repertory.networks.stacking import rebuild_frames, rebuild_vectors
from repertory.networks.torsos import VectorTorso, build_torso
from repertory.types import TaskSpec


class ActorCritic(nn.Module):
    """Policy and value of every task of a run, for one step of many lanes or for whole unrolls."""

    def __init__(self, tasks: Sequence[TaskSpec], config: NetworkConfig) -> None:
        super().__init__()
        spec, action = tasks[0].observation, tasks[0].action
        self.torso = build_torso(spec, config)
        self.conditioning = (
            None
            if config.conditioning == "none"
            else TaskConditioning(
                config.conditioning,
                tasks=len(tasks),
                features=config.hidden,
                embedding_size=config.embedding_size,
            )
        )
        self.memory = Lstm(config.hidden, config.lstm) if config.lstm else None
        features = config.lstm or config.hidden
        self.policy = PolicyHead(features, action.size)
        self.value = ValueHead(features, tasks=len(tasks), popart=config.popart.enabled)
        self.config = config
        self.stack = spec.stack
        self.tasks = len(tasks)
        """M."""
        self.recurrent_size = 2 * config.lstm
        """R."""
        self.number_format = torch.float32
        self.channels_last = True
        """What the torso computes in; heads, gates and losses are float32 whatever it says."""

    @property
    def reads_vectors(self) -> bool:
        """Whether observations are vectors; those are always computed in float32."""
        return isinstance(self.torso, VectorTorso)

    def _see(self, stacked: Tensor) -> Tensor:
        """Return torso features of network inputs, [N, *shape, K] or [N, *shape]."""
        if self.reads_vectors:
            vectors: Tensor = self.torso(stacked.flatten(1).to(torch.float32))
            return vectors
        # [N, Y, X, K] memory seen as [N, K, Y, X] is torch's channels_last: nothing is moved.
        images = stacked.unsqueeze(-1) if stacked.dim() == 3 else stacked
        images = images.to(self.number_format).permute(0, 3, 1, 2)
        features: Tensor = self.torso(images if self.channels_last else images.contiguous())
        return features

    def act(
        self,
        stacked: Shaped[Tensor, "L *shape"],
        task: Int[Tensor, " L"],
        recurrent: Float[Tensor, "L R"],
        started: Bool[Tensor, " L"],
    ) -> tuple[Float32[Tensor, "L A"], Float32[Tensor, "L R"]]:
        """Return logits and the next recurrent state for one observation of every lane.

        `stacked` is uint8 [L, Y, X, K] (or [L, Y, X] for K = 1), oldest frame first, or float
        [L, D] for vectors. A task index outside 0..M-1 is a task that was not trained on.
        """
        features = self._see(stacked)
        if self.conditioning is not None:
            features = self.conditioning(features, task)
        if self.memory is not None:
            outputs, recurrent = self.memory.unroll(
                features.unsqueeze(0), started.unsqueeze(0), recurrent
            )
            features = outputs[0]
        logits: Tensor = self.policy(features.float())
        return logits, recurrent

    def rebuild(
        self, observation: Shaped[Tensor, "HT1 B *shape"], age: UInt8[Tensor, "T1 B"]
    ) -> Shaped[Tensor, "N *stacked"]:
        """Return the network input of every step of an unroll, from single observations."""
        if self.reads_vectors:
            return rebuild_vectors(observation, age).flatten(0, 1)
        return rebuild_frames(observation, age)

    def features(
        self,
        stacked: Shaped[Tensor, "N *stacked"],
        age: UInt8[Tensor, "T1 B"],
        task: Int[Tensor, " B"],
        recurrent: Float[Tensor, "B R"],
    ) -> Float32[Tensor, "T1 B F"]:
        """Return what the heads read at every step of an unroll, given `rebuild`'s stacks."""
        steps, columns = age.shape
        features = self._see(stacked).view(steps, columns, -1)
        if self.conditioning is not None:
            features = self.conditioning(features, task.expand(steps, columns))
        if self.memory is not None:
            features, _ = self.memory.unroll(features, age == 0, recurrent)
        return features.float()

    def unroll(
        self,
        observation: Shaped[Tensor, "HT1 B *shape"],
        age: UInt8[Tensor, "T1 B"],
        task: Int[Tensor, " B"],
        recurrent: Float[Tensor, "B R"],
    ) -> tuple[Float32[Tensor, "T1 B A"], Float32[Tensor, "T1 B"]]:
        """Return logits and un-normalised values at every step of an unroll."""
        features = self.features(self.rebuild(observation, age), age, task, recurrent)
        return self.policy(features), self.value.values(features, task.expand(age.shape))


def build_network(tasks: Sequence[TaskSpec], config: NetworkConfig, seed: int) -> ActorCritic:
    """Return a network for these tasks, its weights drawn from `seed` alone."""
    if not tasks:
        raise BadInput("a network needs at least one task")
    first = tasks[0]
    for task in tasks:
        if (task.observation, task.action) != (first.observation, first.action):
            raise BadInput(
                f"one network plays all tasks, but {task.name} has {task.observation} and "
                f"{task.action} where {first.name} has {first.observation} and {first.action}"
            )
    if first.action.kind != "discrete":
        raise BadInput(
            f"{first.name} has {first.action.kind} actions; this network plays discrete ones"
        )
    network = ActorCritic(tasks, config)
    generator = torch.Generator().manual_seed(seed)
    initialise(network, generator)
    if network.conditioning is not None:
        network.conditioning.initialise(generator)
    return network


def describe(network: ActorCritic) -> tuple[int, str]:
    """Return the number of parameters, and the network in one line."""
    count = sum(parameter.numel() for parameter in network.parameters())
    config = network.config
    parts = [f"{config.torso} torso", f"width {config.width:g}"]
    if config.torso == "impala":
        parts.append(f"depth {config.depth}")
    parts.append(f"hidden {config.hidden}")
    if config.lstm:
        parts.append(f"LSTM {config.lstm}")
    if config.conditioning != "none":
        parts.append(f"conditioning {config.conditioning}")
    if config.popart.enabled:
        parts.append(f"PopArt over {network.value.weight.shape[0]} tasks")
    parts.append(f"{network.policy.weight.shape[0]} actions")
    return count, f"{', '.join(parts)}: {count:,} parameters"
