"""Equal parts of a batch for the tasks that have a part in it; what is left over goes round them.

Axes: M tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def equal_shares(
    members: Sequence[int], task_count: int, total: int, cursor: int
) -> Int64[np.ndarray, " M"]:
    """Return how many of `total` each task gives: 0 for those that are not among `members`.

    The members' shares differ by one at most; the larger ones begin with the member at `cursor`,
    counted modulo their number.
    """
    shares = np.zeros(task_count, np.int64)
    places = np.asarray(members)
    whole, rest = divmod(total, len(places))
    shares[places] = whole
    shares[places[(cursor + np.arange(rest)) % len(places)]] += 1
    return shares


def filled_up(shares: Sequence[int], held: Sequence[int]) -> list[int] | None:
    """Return shares that the tasks can give, with what some lack taken from the fullest.

    None where all tasks together hold too little.
    """
    if sum(held) < sum(shares):
        return None
    given = [min(own, share) for own, share in zip(held, shares, strict=True)]
    spare = [own - part for own, part in zip(held, given, strict=True)]
    for _ in range(sum(shares) - sum(given)):
        fullest = int(np.argmax(spare))
        given[fullest] += 1
        spare[fullest] -= 1
    return given
