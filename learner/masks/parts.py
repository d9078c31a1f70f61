"""Masks of an off-policy learner's parts, each network its own set: the actor, both critics.

Axes: N rows ordered by task, M tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from learner.gradients.aggregate import GradientSurgery
from learner.masks.keeper import MaskKeeper
from learner.masks.scoring import Losses, MlpGradients, OfTask, Rows
from repertory.config import RunConfig
from repertory.masks import PackedMasks
from repertory.networks.masked import MaskedMlp
from repertory.networks.masks import TaskMasks
from repertory.networks.task_mlp import TaskMlp


class PartMasks:
    """Masks by part; nothing at all unless the run's method is harmony."""

    def __init__(
        self, config: RunConfig, tasks: int, surgery: GradientSurgery, device: torch.device
    ) -> None:
        self._config, self._tasks, self._surgery, self._device = config, tasks, surgery, device
        self._keepers: dict[str, MaskKeeper] = {}
        self._networks: dict[str, TaskMlp] = {}

    def __bool__(self) -> bool:
        """Whether there are masks."""
        return bool(self._keepers)

    def __contains__(self, part: str) -> bool:
        """Whether a part has masks."""
        return part in self._keepers

    def add(self, part: str, network: TaskMlp, losses: Losses) -> None:
        """Draw masks for a network, if the run has any; `losses` are its tasks'."""
        if self._config.gradients.method != "harmony":
            return
        self._networks[part] = network
        masks = self._keepers[part] = MaskKeeper(
            network, self._config, self._tasks, part=part, device=self._device
        )

        def gradients_of(rows: Rows) -> OfTask:
            tensors = {
                name: torch.as_tensor(value, device=self._device) for name, value in rows.items()
            }
            return MlpGradients(network, masks.ready, tensors, losses, hold=masks.holds)

        masks.judge_by(gradients_of)

    def ready(self, part: str) -> TaskMasks:
        """Return a part's masks, ready to multiply with."""
        return self._keepers[part].ready

    def packed(self, parts: Sequence[str]) -> tuple[PackedMasks, ...] | None:
        """Return the masks of these parts as they travel; None in a run without masks."""
        return tuple(self._keepers[part].packed for part in parts) if self else None

    def worn(self, part: str, network: TaskMlp) -> TaskMlp | MaskedMlp:
        """Return a part's network, or its target, as tasks see it with its weights of now.

        Targets wear the masks of the networks they follow.
        """
        return MaskedMlp(network, self.ready(part)) if part in self else network

    def score(self, part: str, rows: Mapping[str, Tensor], *, update: int, progress: float) -> None:
        """Let a part's masks see the tasks' gradients, in the updates (from 1) they want to.

        `rows` are what the part's losses are computed from: `inputs`, the network's, and whatever
        else; tasks that are not among `kept` have a gradient of zero.
        """
        if part not in self:
            return
        measured = self._keepers[part].see(rows, update, progress)
        if measured is not None:
            self._surgery.measure(part, measured.products, measured.overlap)

    def finish(self, update: int, progress: float) -> None:
        """Update the masks that are due after this update of the weights."""
        # All are decided first: the actor is judged by the critics' sub-networks as they were.
        decided = {
            part: masks.decide(update, progress, self._networks[part])
            for part, masks in self._keepers.items()
        }
        for part, after in decided.items():
            self._keepers[part].accept(after)

    def metrics(self) -> dict[str, float]:
        """Return what all parts' masks report."""
        found: dict[str, float] = {}
        for masks in self._keepers.values():
            found.update(masks.metrics())
        return found

    def state(self) -> dict[str, Any]:
        """Return every part's state."""
        return {part: masks.state() for part, masks in self._keepers.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state from `state()`."""
        for part, masks in self._keepers.items():
            masks.restore(state[part])
