"""A batch's parts are equal over the tasks that have one, and what is left over goes round."""

from __future__ import annotations

import numpy as np
import pytest

from replay.shares import equal_shares, filled_up


@pytest.mark.parametrize(("members", "total"), [((0, 2, 3), 8), ((1,), 5), ((0, 1, 2, 3), 3)])
def test_shares_are_dealt_out_one_by_one_beginning_where_the_round_stands(
    members: tuple[int, ...], total: int
) -> None:
    for cursor in range(9):
        dealt = [0] * 4
        for member in members:
            dealt[member] = total // len(members)
        for extra in range(total % len(members)):
            dealt[members[(cursor + extra) % len(members)]] += 1
        assert equal_shares(members, 4, total, cursor).tolist() == dealt
        assert sum(dealt) == total


def test_what_a_task_lacks_comes_from_the_fullest_and_never_more_than_it_has() -> None:
    assert filled_up([3, 3, 3], [1, 4, 9]) == [1, 3, 5]
    assert filled_up([2, 2], [5, 5]) == [2, 2]
    assert filled_up([2, 2], [1, 2]) is None
    random = np.random.default_rng(4)
    for _ in range(200):
        shares, held = random.integers(0, 5, 4).tolist(), random.integers(0, 9, 4).tolist()
        given = filled_up(shares, held)
        if given is None:
            assert sum(held) < sum(shares)
            continue
        assert sum(given) == sum(shares)
        for share, own, part in zip(shares, held, given, strict=True):
            assert min(share, own) <= part <= own
