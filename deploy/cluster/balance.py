"""Which worker numbers a run fills or gives up, so that its tasks keep equal parts of the lanes.

Lanes are dealt to tasks by the workers' numbers, and workers to learners: both come out even when
the n workers that play are those of numbers 0 to n - 1.
"""

from __future__ import annotations

from collections.abc import Collection


def lowest_free(taken: Collection[int], count: int) -> list[int]:
    """Return the `count` lowest numbers that nobody has; none for a negative count."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        if number not in taken:
            found.append(number)
        number += 1
    return found


def giving_way(playing: Collection[int], empty: Collection[int]) -> list[int]:
    """Return the players that stop, so that the numbers in `empty` get their cores.

    One for each number at most, the highest first, and only players above the number they make
    room for: what plays after it is as many workers, of lower numbers.
    """
    pairs = zip(sorted(playing, reverse=True), sorted(empty), strict=False)
    return [player for player, number in pairs if player > number]
