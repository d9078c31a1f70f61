"""Policies of earlier runs that never learn here, as candidates beside the tasks' own (transfer).

Axes: N rows, X policies of all experts, I inputs, O outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repertory.errors import BadInput
from repertory.networks.task_mlp import TaskMlp


class Experts(nn.Module):
    """Frozen actors; policy x is one task's of one of them, numbered in their order.

    He et al. 2024, section 5.6. Their weights are NaN until `load_expert`, a checkpoint or a
    publication brings them, so that an expert that was forgotten is noticed.
    """

    def __init__(self, actors: Sequence[TaskMlp]) -> None:
        super().__init__()
        self.actors = nn.ModuleList(actors)
        self.requires_grad_(False)

    @property
    def networks(self) -> list[TaskMlp]:
        """The actors in order."""
        return [actor for actor in self.actors if isinstance(actor, TaskMlp)]

    @property
    def policies(self) -> int:
        """How many candidates they are together."""
        return sum(actor.tasks for actor in self.networks)

    def forward(
        self, inputs: Float[Tensor, "N I"], policy: Int[Tensor, " N"]
    ) -> Float[Tensor, "N O"]:
        """Return each row's outputs by the policy named for it, 0..X-1."""
        outputs = inputs.new_full((len(inputs), self.networks[0].outputs), torch.nan)
        for actor, start in zip(self.networks, self._starts(), strict=True):
            rows = ((policy >= start) & (policy < start + actor.tasks)).nonzero().squeeze(-1)
            if len(rows):
                outputs[rows] = actor(inputs[rows], policy[rows] - start)[0]
        return outputs

    def every_policy(self, inputs: Float[Tensor, "N I"]) -> Float[Tensor, "N X O"]:
        """Return every row's outputs by every policy."""
        return torch.cat([actor.every_task(inputs)[0] for actor in self.networks], 1)

    def _starts(self) -> list[int]:
        """Return the number of each actor's first policy."""
        tasks = [actor.tasks for actor in self.networks]
        return list(itertools.accumulate(tasks, initial=0))[:-1]


def load_expert(actor: TaskMlp, arrays: Mapping[str, np.ndarray], name: str) -> None:
    """Copy an expert's arrays, by the names of its state, into its actor.

    Raises:
        BadInput: they are of another network than the expert's settings describe, or not finite.
    """
    own = actor.state_dict()
    theirs = {key: tuple(array.shape) for key, array in arrays.items()}
    wanted = {key: tuple(tensor.shape) for key, tensor in own.items()}
    for key in sorted(theirs.keys() | wanted.keys()):
        if theirs.get(key) != wanted.get(key):
            raise BadInput(
                f"the checkpoint of expert {name} is not of the network in its settings: {key} is "
                f"{theirs.get(key, 'absent')} there and {wanted.get(key, 'absent')} here"
            )
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise BadInput(f"the checkpoint of expert {name} has weights that are not finite")
        own[key].copy_(torch.tensor(array))
