"""What learners do when one of them waits, stops, drifts, dies or hangs."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest
import torch
from several_learners import together

from learner.parallel.exchange import ALONE, Exchange, largest, maxima, own_rows
from learner.parallel.lockstep import COMPARE_EVERY, Lockstep
from learner.parallel.processes import ExchangeLost, ProcessExchange
from repertory.types import Weights

HANGS_S = 3.0


def test_one_that_is_alone_is_its_own_sum_and_has_nobody_to_meet() -> None:
    part = torch.arange(3.0)
    (found,) = ALONE.total(part)
    assert found is part
    agreed = Lockstep(ALONE).agree(ready=True, stopping=False, steps=7)
    assert (agreed.learn, agreed.stop, agreed.steps) == (True, False, 7)
    assert not Lockstep(ALONE).agree(ready=False, stopping=False, steps=7).learn
    with pytest.raises(ValueError, match="nobody to meet"):
        Lockstep(ALONE).meet("127.0.0.1", 1, "127.0.0.1")


def test_the_rows_of_all_learners_are_each_row_of_the_whole_batch_once() -> None:
    whole = torch.arange(2 * 3 * 4.0).view(12, 2)  # two tasks, three learners, two rows each

    class Seat:
        learners = 3

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def total(self, *parts: torch.Tensor) -> list[torch.Tensor]:
            return list(parts)

    parts = [own_rows(whole, Seat(rank), 2) for rank in range(3)]
    assert parts[0].tolist() == whole[[0, 1, 6, 7]].tolist()
    assert parts[2].tolist() == whole[[4, 5, 10, 11]].tolist()
    assert sorted(torch.cat(parts).flatten().tolist()) == whole.flatten().tolist()


def life_of_a_learner(exchange: Exchange) -> dict[str, Any]:
    """Agree, add up and compare as learners do, and return what came of it."""
    rank = exchange.rank
    steps = Lockstep(exchange)
    numbers = torch.full((2, 3), float(rank + 1), dtype=torch.float64)
    image = torch.full((4, 2, 5, 5), float(rank)).contiguous(memory_format=torch.channels_last)
    summed, frames = exchange.total(numbers, image)
    (rows,) = exchange.total(maxima(exchange, torch.tensor([1.0 - rank, float("-inf")])))
    same = Weights(1, np.arange(5, dtype=np.float32))
    steps.compare(COMPARE_EVERY, lambda: same)
    other = Weights(1, np.arange(5, dtype=np.float32) + np.float32(1e-6 * rank))
    steps.compare(COMPARE_EVERY + 1, lambda: other)
    found = {
        "waits": steps.agree(ready=rank != 1, stopping=False, steps=10 + rank),
        "learns": steps.agree(ready=True, stopping=False, steps=20 + rank),
        "stops": steps.agree(ready=True, stopping=rank == 2, steps=30),
        "summed": summed.numpy(),
        "frames": frames.sum().item(),
        "layout": frames.is_contiguous(memory_format=torch.channels_last),
        "largest": largest(rows).tolist(),
    }
    with pytest.raises(ExchangeLost, match="not the same any more after 200 updates"):
        steps.compare(2 * COMPARE_EVERY, lambda: other)
    return found


def test_three_learners_agree_on_when_to_learn_and_notice_when_they_drift_apart() -> None:
    found = together(life_of_a_learner, learners=3)
    for one in found:
        assert (one["waits"].learn, one["waits"].steps) == (False, 33)
        assert (one["learns"].learn, one["learns"].stop) == (True, False)
        assert one["stops"].stop
        np.testing.assert_array_equal(one["summed"], np.full((2, 3), 6.0))
        assert one["frames"] == 3 * 200
        assert one["layout"]
        assert one["largest"] == [1.0, float("-inf")]


def loses_another(exchange: ProcessExchange, how: str) -> float:
    """Return how long the first learner waited for the second one, which ends in some way."""
    exchange.total(torch.zeros(1))
    if exchange.rank == 1:
        if how == "dies":
            os._exit(1)
        if how == "hangs":
            time.sleep(3 * HANGS_S)
        return 0.0
    before = time.monotonic()
    with pytest.raises(ExchangeLost, match="another learner is gone"):
        exchange.total(torch.zeros(1000))
    return time.monotonic() - before


@pytest.mark.parametrize("how", ["dies", "leaves"])
def test_a_learner_that_is_gone_is_missed_at_once(how: str) -> None:
    assert together(loses_another, how)[0] < 20.0


def test_a_learner_that_hangs_is_missed_after_the_time_that_is_set() -> None:
    waited = together(loses_another, "hangs", timeout_s=HANGS_S)[0]
    assert HANGS_S * 0.5 < waited < 3 * HANGS_S


def test_a_learner_that_nobody_meets_says_so() -> None:
    exchange = ProcessExchange(1, 2, torch.device("cpu"), 0.5)
    with pytest.raises(ExchangeLost, match=r"the 2 learners did not all meet at 127.0.0.1 port 9"):
        exchange.meet("127.0.0.1", 9, "127.0.0.1")
