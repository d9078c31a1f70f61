"""Which worker numbers play while a cluster has too few cores for all of them, or more."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import counting_config

from deploy import build
from deploy.cluster.balance import giving_way, lowest_free
from repertory.config import ActorConfig, LearnerConfig


@pytest.mark.parametrize(
    ("taken", "count", "found"),
    [
        ((), 3, [0, 1, 2]),
        ((0, 1, 2), 2, [3, 4]),
        ((0, 2, 5), 3, [1, 3, 4]),
        ((1,), 0, []),
        ((), -4, []),
    ],
)
def test_new_workers_take_the_lowest_numbers(
    taken: tuple[int, ...], count: int, found: list[int]
) -> None:
    assert lowest_free(taken, count) == found


@pytest.mark.parametrize(
    ("playing", "empty", "stopping"),
    [
        ((0, 2, 3), (1,), [3]),
        ((0, 1, 2), (3, 4), []),
        ((0, 3, 4, 5), (1, 2), [5, 4]),
        ((2,), (0, 1), [2]),
        ((), (0,), []),
        ((0, 1), (), []),
        ((1, 6), (0, 2, 3), [6]),
    ],
)
def test_one_player_gives_way_to_each_lower_number_that_is_empty(
    playing: tuple[int, ...], empty: tuple[int, ...], stopping: list[int]
) -> None:
    assert giving_way(playing, empty) == stopping


@pytest.mark.parametrize("learners", [1, 2])
def test_whichever_workers_are_lost_tasks_and_learners_keep_equal_parts(learners: int) -> None:
    config = counting_config(
        actors=ActorConfig(count="all", lanes=2),
        learner=LearnerConfig(batch_size=6, count=learners),
    )
    generator = np.random.default_rng(0)
    for _ in range(200):
        wanted = int(generator.integers(2, 20))
        playing = {n for n in range(wanted) if generator.random() < 0.7}
        empty = set(range(max(playing, default=0))) - playing
        stopping = giving_way(playing, empty)
        assert len(stopping) <= len(empty)
        left = playing - set(stopping)
        left |= set(lowest_free(left, len(stopping)))
        assert left == set(range(len(playing)))
        for rank in range(learners):
            own = [n for n in left if n % learners == rank]
            lanes = [task for n in own for task in build.assignment(config, 3, n)]
            assert np.ptp(np.bincount(lanes, minlength=3)) <= 1
        assert np.ptp([sum(n % learners == rank for n in left) for rank in range(learners)]) <= 1
