"""What the learners of one run add up: the one door through which an update hears of the others.

Every learner has equal shares of a batch, and the weights of all stay equal to the bit. For that,
whatever is computed over a batch and enters the weights goes through here first: gradients and
losses before they are judged, moments, each task's losses. No caller knows whether it is alone.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from repertory.errors import ClusterFailure


class ExchangeLost(ClusterFailure):
    """Another learner of the run is gone, or did not answer in time."""


@runtime_checkable
class Exchange(Protocol):
    """The learners of a run as one of them sees them."""

    @property
    def rank(self) -> int:
        """The number of this learner, from 0."""

    @property
    def learners(self) -> int:
        """How many there are."""

    def total(self, *parts: Tensor) -> list[Tensor]:
        """Return the sums of each part over all learners, the same to the bit for each of them.

        All learners must call it at the same places, with parts of the same shapes; one message
        per type of number. The sums carry no gradient.

        Raises:
            ExchangeLost: another learner is gone, or did not answer in time.
        """


class Alone:
    """`Exchange` of a run with one learner: everything is its own sum already."""

    rank = 0
    learners = 1

    def total(self, *parts: Tensor) -> list[Tensor]:
        """Return the parts."""
        return list(parts)


ALONE = Alone()


def maxima(exchange: Exchange, own: Tensor) -> Tensor:
    """Return one learner's numbers as a part of a total, from which `largest` is read off.

    Sums are all that an exchange knows: each learner fills a row of its own.
    """
    rows = torch.zeros(exchange.learners, *own.shape, dtype=own.dtype, device=own.device)
    rows[exchange.rank] = own.detach()
    return rows


def largest(rows: Tensor) -> Tensor:
    """Return the largest of what all learners put into `maxima`, after the total."""
    return rows.amax(0)


def own_rows(whole: Tensor, exchange: Exchange, tasks: int) -> Tensor:
    """Return this learner's rows of those of all learners together.

    The rows of the whole batch are ordered by task, and each task's by learner: this is where one
    learner with the whole batch would have them.
    """
    by_learner = whole.view(tasks, exchange.learners, -1, *whole.shape[1:])
    return by_learner[:, exchange.rank].flatten(0, 1)
