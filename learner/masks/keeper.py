"""One network's masks through a run: drawn, scored, updated by schedule, measured and saved.

Axes: M tasks, C copies of a network, P maskable weights of a copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from learner.masks.gradients import TaskGradients, accumulated
from learner.masks.harmony import flips
from learner.masks.initialisation import initial_masks
from learner.masks.measuring import Measured, described, measured
from learner.masks.schedule import changes_at, is_due, is_scored, window_progress
from learner.masks.scoring import OfTask, Rows
from learner.masks.update import Scoring, updated_masks
from repertory import seeding
from repertory.config import RunConfig
from repertory.errors import BadInput, NumericalFailure
from repertory.masks import PackedMasks, masks_from_state, masks_state, memory_of, pack
from repertory.networks.masks import MaskReader, TaskMasks, flatten

logger = logging.getLogger(__name__)


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
        size = memory_of(tasks, self.layout.total, self.layout.copies).gradients
        self.holds = 2 * size <= config.masks.gradient_bytes
        """Whether all tasks' gradients are held at once; else they are computed again and again,
        a task at a time, from batches that wait.
        """
        # How many weights of all tasks a measurement may hold.
        self._at_once = max(1, config.masks.gradient_bytes * self.layout.total // max(size, 1))
        self._gradients_of: Callable[[Rows], OfTask] | None = None
        self._totals: list[TaskGradients] = []
        self._waiting: list[dict[str, Any]] = []
        self._flips = 0.0
        self._unread: dict[str, float] = {}

    @property
    def ready(self) -> TaskMasks:
        """Return the masks of now, ready to multiply with."""
        return self._read(self.packed)

    def judge_by(self, gradients_of: Callable[[Rows], OfTask]) -> None:
        """Take how a batch's gradients are computed, by the weights and masks of the moment."""
        self._gradients_of = gradients_of

    def see(self, rows: Rows, update: int, progress: float) -> Measured | None:
        """Score and measure a batch in the updates, counted from 1, that want it.

        Return what was measured. Where gradients are not held, a copy of the batch waits for the
        mask update, whose weights its gradients are then of.
        """
        scored, due = self._scores(update, progress), self._measures(update)
        if not scored and not due:
            return None
        assert self._gradients_of is not None
        of_task = self._gradients_of(rows)
        if not self.holds:
            if scored:
                self._waiting.append({name: _copy(value) for name, value in rows.items()})
            if not due:
                return None
            return self._measure(lambda task: of_task(task, False).masked, self._at_once)
        found = []
        before = self._totals
        totals = []
        for task in range(self._tasks):
            gradients = of_task(task, scored)
            if scored:
                totals.append(accumulated(before[task] if before else None, gradients))
            if due:
                found.append(gradients.masked)
        if scored:
            self._totals = totals
        return self._measure(found.__getitem__, self.layout.total) if due else None

    def _scores(self, update: int, progress: float) -> bool:
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

    def _measures(self, update: int) -> bool:
        """Whether this update's masked gradients are wanted for the metrics."""
        every = self._settings.metrics_every
        return every > 0 and is_due(update, every=every)

    def _summed(self) -> Callable[[int], TaskGradients]:
        """Return each task's gradients in all batches since the last mask update, and forget them.

        They are looked up where they are held, computed at every call where not.
        """
        totals, self._totals = self._totals, []
        waiting, self._waiting = self._waiting, []
        if self.holds:
            return totals.__getitem__
        assert self._gradients_of is not None
        batches = [self._gradients_of(rows) for rows in waiting]

        def summed(task: int) -> TaskGradients:
            total: TaskGradients | None = None
            for of_task in batches:
                total = accumulated(total, of_task(task, True))
            assert total is not None
            return total

        return summed

    def finish(self, update: int, progress: float, network: nn.Module) -> None:
        """Update the masks after this update of the weights if that is due."""
        self.accept(self.decide(update, progress, network))

    def decide(
        self, update: int, progress: float, network: nn.Module
    ) -> Bool[Tensor, "M P"] | None:
        """Return what the masks become after this update of the weights; None if they stay.

        Gradients that are not finite leave the masks as they are.
        """
        settings = self._settings
        if not (self._totals or self._waiting) or not is_due(update, every=settings.every):
            return None
        summed = self._summed()
        changes = changes_at(
            progress,
            self.layout.total,
            schedule=settings.schedule,
            alpha=settings.alpha,
            warm_up=settings.warm_up,
            freeze=settings.freeze,
        )
        if changes == 0:
            return None
        owned = self._owned()
        with torch.no_grad():
            parameters = flatten(self.layout, dict(network.named_parameters()))
        scoring = Scoring(
            settings.variant, settings.importance_weight, settings.compat == "released"
        )
        try:
            return updated_masks(owned, summed, parameters, changes=changes, scoring=scoring)
        except NumericalFailure as failure:
            logger.warning("%s", failure)
            return None

    def accept(self, after: Bool[Tensor, "M P"] | None) -> None:
        """Make these the masks of a new version; None, or the same ones, leave them as they are."""
        if after is None:
            return
        changed = flips(self._owned(), after)
        if not bool(changed.any()):
            return
        self._flips += float(changed.float().mean())
        self.packed = pack(after.cpu().numpy(), self.packed.version + 1)

    def _measure(self, masked_of: Callable[[int], Tensor], at_once: int) -> Measured:
        """Keep how well the tasks get along for the next report."""
        owned = self._owned()
        found = measured(masked_of, owned, self.layout, at_once=at_once)
        self._unread = described(found, owned, self.layout, self._ending)
        return found

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
            "waiting": [
                {name: _as_array(value) for name, value in rows.items()} for rows in self._waiting
            ],
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
        # Runs from before batches could wait have none.
        self._waiting = [
            {name: np.array(value) for name, value in rows.items()}
            for rows in state.get("waiting", [])
        ]
        self._flips = float(state["flips"])
        self._unread = {name: float(value) for name, value in state["unread"].items()}

    def _owned(self) -> Tensor:
        return torch.from_numpy(self.packed.unpack()).to(self._device)


def _copy(value: Any) -> Any:
    """Return an array or a tensor that nobody else will write to."""
    return value.detach().clone() if isinstance(value, Tensor) else np.array(value)


def _as_array(value: Any) -> np.ndarray:
    return value.cpu().numpy().copy() if isinstance(value, Tensor) else value.copy()
