"""Task masks on a shared network: how sparse, drawn how, and whether and when they are updated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repertory.config.base import NonNegative, NonNegativeFloat, Positive, Probability, Settings


class MaskConfig(Settings):
    """Task masks (Hu et al. 2024): each task acts and learns with its own part of the weights."""

    sparsity: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Share of the maskable weights that a task does not own; constant through a run. Maskable are
    the trunk's matrices and convolutions; heads, biases, norms and task codes belong to all.
    """
    initialisation: Literal["erk", "uniform"] = "erk"
    """erk: small parameters denser than large ones (Evci et al. 2020); uniform: all alike."""
    variant: Literal["random", "agreement", "fisher", "magnitude"] = "random"
    """random (R): masks stay as drawn; the others update them by how a weight's gradient agrees
    with the mean of all tasks, fisher (F) and magnitude (M) also by how much it matters to the
    task. Updates make masks more alike and can do worse than random.
    """
    importance_weight: NonNegativeFloat = 1.0
    """lambda: fisher, magnitude: weight of importance beside agreement."""
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 5e-3
    """Largest share of the maskable weights that a task exchanges in one update; 0 never."""
    schedule: Literal["hump", "decay", "constant"] = "hump"
    """hump: from 0 to alpha at half-time and back; decay: from alpha to 0."""
    every: Positive = 2500
    """Learner updates between mask updates, which with the batches that they score take below 1 %
    of a run so, and 3 to 5 % every 500.
    """
    warm_up: Probability = 0.05
    """First share of a run without mask updates: scores of an untrained network are noise."""
    freeze: Probability = 0.1
    """Last share of a run without mask updates."""
    score_batches: Positive = 8
    """Batches that scoring gradients are averaged over before a mask update."""
    metrics_every: NonNegative = 1000
    """Learner updates between measurements of harmony, cosines and overlap; 0 never."""
    gradient_bytes: Positive = 2**30
    """Memory for all tasks' gradients of a network, 8 x tasks x maskable weights (both critics'
    count). Where they would take more, mask updates keep their batches instead, and compute each
    task's gradients twice, one task at a time, with the weights of the update.
    """
    unseen_votes: NonNegativeFloat = 0.0
    """A task that was not trained on owns the weights that more than so many tasks own (Hu et al.
    2024), fewer than there are tasks; 0: those with most votes, as many as a task owns.
    """
    compat: Literal["none", "released"] = "none"
    """released: for comparison, what the authors' code does where it differs from the paper:
    outsiders scored by the masked gradient, codes and heads in the budget although never masked,
    agreement times 10 instead of lambda, and the hump schedule.
    """

    @model_validator(mode="after")
    def _consistent(self) -> MaskConfig:
        if self.warm_up + self.freeze >= 1.0:
            raise ValueError(
                f"masks.warm_up {self.warm_up} and masks.freeze {self.freeze} leave no time for "
                "updates: together they must stay below 1"
            )
        if self.compat == "released" and self.schedule != "hump":
            raise ValueError(
                f"masks.compat released goes with masks.schedule hump, not {self.schedule}"
            )
        room = min(self.sparsity, 1.0 - self.sparsity)
        # 1 - 0.8 comes out below 0.2.
        too_much = self.alpha > room + 1e-9
        if self.variant != "random" and self.sparsity > 0.0 and too_much:
            raise ValueError(
                f"masks.alpha {self.alpha} is more than masks of sparsity {self.sparsity} can "
                f"exchange in one update: at most {room:g}"
            )
        return self
