"""Small networks with masks, and sub-networks cut out of them by hand, that tests share."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from learner.masks.initialisation import initial_masks
from repertory.config import NetworkConfig, PopArtConfig
from repertory.masks import PackedMasks, pack
from repertory.networks.actor_critic import ActorCritic, build_network
from repertory.networks.masks import layout_of
from repertory.networks.task_mlp import TaskMlp
from repertory.seeding import stream
from repertory.types import ActionSpec, ObservationSpec, TaskSpec


def mlp_of(
    *, one_hot: bool = True, heads: bool = True, copies: int = 2, hidden: int = 8, layers: int = 3
) -> TaskMlp:
    """Return a network of 3 tasks, biases drawn too."""
    network = TaskMlp(
        5,
        2,
        tasks=3,
        hidden=hidden,
        layers=layers,
        one_hot=one_hot,
        per_task_heads=heads,
        copies=copies,
    )
    generator = torch.Generator().manual_seed(5)
    network.initialise(generator)
    with torch.no_grad():
        for bias in (*network.biases, network.head_bias):
            bias.copy_(torch.randn(bias.shape, generator=generator))
    return network


def masks_of(network: torch.nn.Module, tasks: int = 3, sparsity: float = 0.4) -> PackedMasks:
    layout = layout_of(network)
    drawn = initial_masks(
        layout, tasks=tasks, sparsity=sparsity, kind="erk", generator=stream(3, "masks")
    )
    return pack(drawn, version=7)


def cut(network: torch.nn.Module, masks: PackedMasks, task: int) -> torch.nn.Module:
    """Return a copy of a network whose weights outside a task's mask were set to zero by hand."""
    result = copy.deepcopy(network)
    parameters = dict(result.named_parameters())
    owned = masks.task(task) if 0 <= task < masks.tasks else np.ones(masks.weights, np.bool_)
    start = 0
    with torch.no_grad():
        for name, shape, free in [
            (tensor.name, tensor.shape, tensor.free_columns)
            for tensor in layout_of(network).tensors
        ]:
            size = int(np.prod(shape))
            bits = torch.from_numpy(owned[start : start + size]).reshape(shape)
            start += size
            parameter = parameters[name]
            if free:
                parameter[..., :-free] *= bits
            else:
                parameter *= bits
    assert start == masks.weights
    return result


SPECS = {
    "shallow": ObservationSpec((84, 84), "uint8", stack=4),
    "impala": ObservationSpec((40, 40), "uint8", stack=2),
    "mlp": ObservationSpec((6,), "float32"),
}


def actor_critic_of(torso: str, *, conditioning: str = "one_hot", lstm: int = 0) -> ActorCritic:
    tasks = [
        TaskSpec(index, f"task {index}", SPECS[torso], ActionSpec("discrete", 4), 0.99)
        for index in range(3)
    ]
    config = NetworkConfig.model_validate(
        {
            "torso": torso,
            "width": 0.5,
            "hidden": 16,
            "lstm": lstm,
            "conditioning": conditioning,
            "embedding_size": 3,
            "popart": PopArtConfig(enabled=True),
        }
    )
    network = build_network(tasks, config, seed=4)
    with torch.no_grad():
        network.policy.weight.mul_(100.0)
    return network


def batch_of(network: ActorCritic, torso: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return observation, age, task and recurrent state of 3 steps of 5 columns."""
    spec, generator = SPECS[torso], torch.Generator().manual_seed(6)
    shape = (spec.history + 4, 5, *spec.shape)
    if spec.dtype == "uint8":
        observation = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    else:
        observation = torch.randn(shape, generator=generator)
    age = torch.tensor([[9, 9, 0, 9, 1], [9, 0, 1, 9, 2], [9, 1, 2, 0, 3], [9, 2, 3, 1, 4]])
    recurrent = torch.randn(5, network.recurrent_size, generator=generator)
    return observation, age.to(torch.uint8), torch.tensor([2, 0, 1, 0, 2]), recurrent


def rows_of(count: int) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(1))
