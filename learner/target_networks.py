"""Target networks that follow online ones, and networks held fixed while another one learns."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from repertory.networks.task_mlp import TaskMlp


def target_of(network: TaskMlp) -> TaskMlp:
    """Return a copy that no gradient reaches, in the same number format."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, share: float) -> None:
    """Move target weights by `share` of the way to the online ones."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), share)


@contextmanager
def fixed(network: nn.Module) -> Iterator[None]:
    """Take no gradients with respect to the network's own weights meanwhile."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
