"""Keeps the learners of a run at the same update: none begins one that another cannot take part in.

Whether to learn, to wait or to end, and how much of the budget is spent, is agreed on before every
update. So a learner that waits for its workers is waited for, and does not look like a dead one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from learner.parallel.exchange import Exchange, ExchangeLost, maxima
from learner.parallel.processes import ProcessExchange
from repertory.types import Weights

COMPARE_EVERY = 100
"""Updates between two looks at whether all learners still have the same weights."""


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

    def open_door(self, address: str) -> int:
        """Let the others meet this learner at an address of this machine; return the port."""
        return self._processes().open_door(address)

    def meet(self, host: str, port: int, address: str) -> None:
        """Wait for all learners at the first one's door; `address` is this machine's own."""
        self._processes().meet(host, port, address)

    def _processes(self) -> ProcessExchange:
        if not isinstance(self._exchange, ProcessExchange):
            raise ValueError("a learner that is alone has nobody to meet")
        return self._exchange

    def leave(self) -> None:
        """Take part in nothing more: those who still wait for this learner hear of it."""
        if isinstance(self._exchange, ProcessExchange):
            self._exchange.close()

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

    def compare(self, updates: int, weights: Callable[[], Weights]) -> None:
        """Look now and then whether all learners have the same weights, to the bit.

        Machines of different kinds may round differently, and what they decide by it drifts apart.

        Raises:
            ExchangeLost: the weights differ, or another learner is gone.
        """
        if self._exchange.learners == 1 or updates % COMPARE_EVERY:
            return
        own = torch.tensor(float(zlib.crc32(weights().vector.tobytes())), dtype=torch.float64)
        (found,) = self._exchange.total(maxima(self._exchange, own))
        if bool((found != own).any()):
            raise ExchangeLost(
                f"the learners' weights are not the same any more after {updates} updates: "
                "use machines of one kind for them"
            )
