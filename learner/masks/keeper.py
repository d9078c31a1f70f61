"""One network's masks through a run: drawn, scored, updated by schedule, measured and saved.

Axes: M tasks, C copies of a network, P maskable weights of a copy.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from learner.masks.gradients import TaskGradients, accumulated
from learner.masks.harmony import (
    average_harmony,
    densities,
    flips,
    mean_between,
    null_of_masks,
    overlap,
)
from learner.masks.initialisation import initial_masks
from learner.masks.schedule import changes_at, is_due, is_scored, window_progress
from learner.masks.update import Scoring, updated_masks
from repertory import seeding
from repertory.config import RunConfig
from repertory.errors import BadInput, NumericalFailure
from repertory.masks import PackedMasks, masks_from_state, masks_state, pack
from repertory.networks.masks import MaskReader, TaskMasks, flatten

logger = logging.getLogger(__name__)


class Measured(NamedTuple):
    """What else is to be known of a measurement."""

    masked: Float[Tensor, "M W"]
    """The tasks' masked gradients, copies side by side."""
    overlap: Float64[np.ndarray, "M M"]


class MaskKeeper:
    """Masks of a network whose copies, twin critics, share them.

    `packed` is the truth, and what travels; `ready` the same, to multiply with. Both keep their
    version until masks change.
    """

    def __init__(
        self,
        network: nn.Module,
        config: RunConfig,
        tasks: int,
        *,
        part: str = "",
        device: torch.device,
    ) -> None:
        """Draw masks from a stream of their own; `part` tells networks and metrics apart."""
        self._settings, self._tasks, self._device = config.masks, tasks, device
        self._ending = f"_{part}" if part else ""
        self._read = MaskReader(network, config.masks, device)
        self.layout = self._read.layout
        drawn = initial_masks(
            self.layout,
            tasks=tasks,
            sparsity=config.masks.sparsity,
            kind=config.masks.initialisation,
            generator=seeding.stream(config.seed, "learner", "masks", part),
        )
        self.packed: PackedMasks = pack(drawn, version=0)
        self._totals: list[TaskGradients] = []
        self._flips = 0.0
        self._unread: dict[str, float] = {}

    @property
    def ready(self) -> TaskMasks:
        """Return the masks of now, ready to multiply with."""
        return self._read(self.packed)

    def scores(self, update: int, progress: float) -> bool:
        """Whether this update's gradients, counted from 1, are wanted for the next mask update."""
        settings = self._settings
        within = window_progress(progress, warm_up=settings.warm_up, freeze=settings.freeze)
        return (
            settings.variant != "random"
            and settings.sparsity > 0.0
            and settings.alpha > 0.0
            and within is not None
            and is_scored(update, every=settings.every, batches=settings.score_batches)
        )

    def measures(self, update: int) -> bool:
        """Whether this update's masked gradients are wanted for the metrics."""
        return is_due(update, every=self._settings.metrics_every)

    def add(self, gradients: Sequence[TaskGradients]) -> None:
        """Add one batch's gradients of every task to what the next mask update goes by."""
        before: Sequence[TaskGradients | None] = self._totals or [None] * len(gradients)
        self._totals = [accumulated(*pair) for pair in zip(before, gradients, strict=True)]

    def finish(self, update: int, progress: float, network: nn.Module) -> None:
        """Update the masks after this update of the weights if that is due.

        Gradients that are not finite leave the masks as they are.
        """
        settings = self._settings
        if not self._totals or not is_due(update, every=settings.every):
            return
        totals, self._totals = self._totals, []
        changes = changes_at(
            progress,
            self.layout.total,
            schedule=settings.schedule,
            alpha=settings.alpha,
            warm_up=settings.warm_up,
            freeze=settings.freeze,
        )
        if changes == 0:
            return
        owned = self._owned()
        with torch.no_grad():
            parameters = flatten(self.layout, dict(network.named_parameters()))
        scoring = Scoring(
            settings.variant, settings.importance_weight, settings.compat == "released"
        )
        try:
            after = updated_masks(
                owned, totals.__getitem__, parameters, changes=changes, scoring=scoring
            )
        except NumericalFailure as failure:
            logger.warning("%s", failure)
            return
        self._flips += float(flips(owned, after).float().mean())
        self.packed = pack(after.cpu().numpy(), self.packed.version + 1)

    def measure(self, gradients: Sequence[TaskGradients]) -> Measured:
        """Keep how well the tasks get along for the next report."""
        masked = torch.stack([one.masked for one in gradients])
        owned, ending = self._owned(), self._ending
        whole = average_harmony(masked, self.layout, owned=owned)
        others = average_harmony(masked, self.layout, owned=owned, leave_one_out=True)
        shared = overlap(owned)
        self._unread = {
            f"learner/harmony{ending}": float(whole.whole),
            f"learner/harmony_null{ending}": null_of_masks(owned),
            f"learner/harmony_others{ending}": float(others.whole),
            f"learner/mask_overlap{ending}": float(mean_between(shared)),
        }
        shares = densities(owned, self.layout).mean(0)
        of_layers = torch.stack([others.layers.cpu(), shares.cpu()], 1).tolist()
        for name, (score, share) in zip(self.layout.names, of_layers, strict=True):
            self._unread[f"learner/harmony_layer{ending}/{name}"] = score
            self._unread[f"learner/mask_density{ending}/{name}"] = share
        return Measured(masked.flatten(1), shared.double().cpu().numpy())

    def metrics(self) -> dict[str, float]:
        """Return flips since the last call, the masks' version, and what was measured since."""
        found = {name: value for name, value in self._unread.items() if value == value}
        found[f"learner/mask_flips{self._ending}"] = self._flips
        found[f"learner/mask_version{self._ending}"] = float(self.packed.version)
        self._flips, self._unread = 0.0, {}
        return found

    def state(self) -> dict[str, Any]:
        """Return masks, sums of gradients and what was not reported yet."""
        return {
            "masks": masks_state(self.packed),
            "totals": {
                name: torch.stack(parts).cpu().numpy()
                for name, parts in zip(
                    TaskGradients._fields, zip(*self._totals, strict=True), strict=False
                )
            },
            "flips": self._flips,
            "unread": dict(self._unread),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; BadInput if its masks are of another network or of other tasks."""
        masks = masks_from_state(state["masks"])
        if (masks.tasks, masks.weights) != (self._tasks, self.layout.total):
            raise BadInput(
                f"the checkpoint's masks are of {masks.tasks} tasks and {masks.weights:,} weights, "
                f"this run's of {self._tasks} and {self.layout.total:,}"
            )
        self.packed = masks
        totals = [
            torch.tensor(state["totals"][n]) for n in TaskGradients._fields if state["totals"]
        ]
        self._totals = [
            TaskGradients(*(part.to(self._device) for part in parts))
            for parts in zip(*totals, strict=True)
        ]
        self._flips = float(state["flips"])
        self._unread = {name: float(value) for name, value in state["unread"].items()}

    def _owned(self) -> Tensor:
        return torch.from_numpy(self.packed.unpack()).to(self._device)
