"""Keeps the learners of a run at the same update: none begins one that another cannot take part in.

Whether to learn, to wait or to end, and how much of the budget is spent, is agreed on before every
update. So a learner that waits for its workers is waited for, and does not look like a dead one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from learner.parallel.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds for all learners."""

    learn: bool
    """Every learner has a batch."""
    stop: bool
    """One of them was told to stop."""
    steps: int
    """Agent steps received by all of them together."""


class Lockstep:
    """One learner's side of it; one that is alone agrees with itself."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def agree(self, *, ready: bool, stopping: bool, steps: int) -> Agreement:
        """Tell the others how things are here, and return how they are for all.

        Raises:
            ExchangeLost: another learner is gone, or did not answer in time.
        """
        own = torch.tensor([float(ready), float(stopping), float(steps)], dtype=torch.float64)
        ready_learners, stopping_learners, all_steps = self._exchange.total(own)[0].tolist()
        return Agreement(
            learn=ready_learners == self._exchange.learners,
            stop=stopping_learners > 0,
            steps=int(all_steps),
        )
