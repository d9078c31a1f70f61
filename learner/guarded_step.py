"""Optimiser steps that are clipped, and taken together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from learner.optimisers import (
    build_optimiser,
    clip_by_global_norm,
    global_norm,
    learning_rate_at,
    optimiser_state,
    restore_optimiser,
    set_learning_rate,
)
from repertory.config import OptimiserConfig


class GuardedStep:
    """Parameters with an optimiser of their own, their gradients clipped as one vector."""

    def __init__(self, parameters: Iterable[Tensor], config: OptimiserConfig) -> None:
        self.parameters = list(parameters)
        self._config = config
        self._optimiser = build_optimiser(self.parameters, config)

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Return the loss's gradients with respect to these parameters, and no others."""
        return list(torch.autograd.grad(loss, self.parameters))

    def step(self, gradients: list[Tensor], norm: Tensor, progress: float) -> None:
        """Step along the gradients, whose norm is given; they are clipped in place."""
        set_learning_rate(self._optimiser, learning_rate_at(self._config, progress))
        clip_by_global_norm(gradients, norm, self._config.clip_norm)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Return what the optimiser remembers."""
        return optimiser_state(self._optimiser)

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what an optimiser remembered."""
        restore_optimiser(self._optimiser, state)


def take_together(steps: Sequence[tuple[GuardedStep, Tensor]], progress: float) -> bool:
    """Take each step down its loss, or, if any loss or gradient is not finite, none of them.

    Deciding that reads one flag from the device. Returns whether they were taken.
    """
    gradients = [step.gradients(loss) for step, loss in steps]
    norms = [global_norm(each) for each in gradients]
    losses = [loss.detach() for _, loss in steps]
    if not bool(torch.isfinite(torch.stack(norms + losses)).all()):
        return False
    for (step, _), each, norm in zip(steps, gradients, norms, strict=True):
        step.step(each, norm, progress)
    return True
