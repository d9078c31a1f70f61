"""The queues give every task its share, never grow without bound, and account for every row."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from learner.loop import Prefetcher
from repertory.types import ActionSpec, ObservationSpec, TaskSpec, Unroll, Weights
from replay.ledger import WINDOW, DeliveryLedger
from replay.trajectory_queues import TrajectoryQueues

STEPS = 3
SPEC = ObservationSpec((2,), "float32")


def tasks(count: int) -> tuple[TaskSpec, ...]:
    return tuple(
        TaskSpec(i, f"counting/{i}", SPEC, ActionSpec("discrete", 4), 0.99) for i in range(count)
    )


def unroll(
    lane_tasks: list[int],
    *,
    worker: int = 0,
    incarnation: int = 0,
    sequence: int = 1,
    version: int = 0,
) -> Unroll:
    """Every number in the unroll tells where it comes from: (worker, sequence, lane, step)."""
    lanes = len(lane_tasks)
    steps = np.arange(STEPS + 1)[:, None]
    stamp = worker * 1e6 + sequence * 1e3 + np.arange(lanes)[None] * 10 + steps
    observation = np.stack([np.broadcast_to(lane_tasks, stamp.shape), stamp], -1)
    body = stamp[:STEPS].astype(np.float32)
    return Unroll(
        worker=worker,
        incarnation=incarnation,
        sequence=sequence,
        task=np.array(lane_tasks, np.int32),
        policy_version=np.full(lanes, version, np.int64),
        observation=observation.astype(np.float32),
        age=np.minimum(np.broadcast_to(steps, stamp.shape), 255).astype(np.uint8),
        action=np.zeros((STEPS, lanes), np.int64),
        reward=body,
        terminated=np.zeros((STEPS, lanes), np.bool_),
        truncated=np.zeros((STEPS, lanes), np.bool_),
        valid=np.ones((STEPS, lanes), np.bool_),
        behaviour_log_probability=-body,
        guide=np.broadcast_to(np.array(lane_tasks, np.int32), (STEPS, lanes)).copy(),
        decision=np.zeros((STEPS, lanes), np.bool_),
        recurrent=np.zeros((lanes, 0), np.float32),
    )


def queues(
    task_count: int,
    batch_size: int,
    *,
    target: int = 8,
    bound: int = 100,
    lag: int = 1000,
    patience_s: float | None = None,
    outstanding: int = 0,
) -> TrajectoryQueues:
    return TrajectoryQueues(
        tasks(task_count),
        batch_size=batch_size,
        targets=[target] * task_count,
        bounds=[bound] * task_count,
        max_policy_lag=lag,
        patience_s=patience_s,
        max_outstanding=outstanding,
    )


def test_every_task_has_its_share_of_a_batch_however_fast_another_is() -> None:
    source = queues(2, 4)
    for sequence in range(1, 6):
        source.insert(unroll([0, 0, 0, 1], sequence=sequence))
    for _ in range(2):
        batch = source.next_batch(0.0)
        assert batch is not None
        assert batch.task.tolist() == [0, 0, 1, 1]


def test_columns_of_a_batch_are_whole_rows_in_the_order_they_came() -> None:
    source = queues(2, 4)
    first, second = unroll([0, 1], sequence=1), unroll([1, 0], sequence=2)
    source.insert(first)
    source.insert(second)
    batch = source.next_batch(0.0)
    assert batch is not None
    expected = [(first, 0), (second, 1), (first, 1), (second, 0)]
    for column, (origin, lane) in enumerate(expected):
        np.testing.assert_array_equal(batch.observation[:, column], origin.observation[:, lane])
        np.testing.assert_array_equal(batch.reward[:, column], origin.reward[:, lane])
        np.testing.assert_array_equal(batch.age[:, column], origin.age[:, lane])
    for name in ("observation", "reward", "age", "action"):
        assert getattr(batch, name).flags.c_contiguous


def test_shares_that_do_not_divide_go_round_the_tasks() -> None:
    source = queues(3, 4)
    for sequence in range(1, 20):
        source.insert(unroll([0, 1, 2], sequence=sequence))
    given = np.zeros(3, int)
    for _ in range(3):
        batch = source.next_batch(0.0)
        assert batch is not None
        given += np.bincount(batch.task, minlength=3)
    assert given.tolist() == [4, 4, 4]


def test_more_tasks_than_columns_take_turns() -> None:
    source = queues(5, 2)
    for sequence in range(1, 4):
        source.insert(unroll([0, 1, 2, 3, 4], sequence=sequence))
    seen = []
    for _ in range(5):
        batch = source.next_batch(0.0)
        assert batch is not None
        seen += batch.task.tolist()
    assert sorted(seen) == sorted([0, 1, 2, 3, 4] * 2)


def test_no_batch_while_a_task_has_too_few_rows() -> None:
    source = queues(2, 4)
    source.insert(unroll([0, 0, 0, 0, 1]))
    assert source.next_batch(0.0) is None
    source.insert(unroll([1], sequence=2))
    assert source.next_batch(0.0) is not None


def test_an_empty_task_is_left_out_after_patience_and_the_gap_is_counted() -> None:
    source = queues(2, 4, patience_s=0.05)
    source.insert(unroll([0] * 6 + [1]))
    assert source.next_batch(0.0) is None
    batch = source.next_batch(5.0)
    assert batch is not None
    assert batch.task.tolist() == [0, 0, 0, 1]
    assert source.counters[1].short_shares == 1
    assert source.metrics()["replay/short_shares"] == 1


def test_a_task_that_ran_out_of_patience_is_not_waited_for_again_until_its_queue_is_full() -> None:
    source = queues(2, 4, target=3, bound=20, patience_s=0.1)
    source.insert(unroll([0] * 8))
    assert source.next_batch(0.0) is None
    assert source.next_batch(30.0) is not None
    again = source.next_batch(0.0)
    assert again is not None
    assert again.task.tolist() == [0, 0, 0, 0]
    source.insert(unroll([0] * 8 + [1], sequence=2))
    # What it has is taken; a slow one would be waited for anew after each of its deliveries.
    short = source.next_batch(0.0)
    assert short is not None
    assert short.task.tolist() == [0, 0, 0, 1]
    source.insert(unroll([0] * 8 + [1] * 3, sequence=3))
    # It is back: of its three rows one is left for the batch after next, which waits as at first.
    whole = source.next_batch(0.0)
    assert whole is not None
    assert whole.task.tolist() == [0, 0, 1, 1]
    assert source.next_batch(0.0) is None


def test_a_full_queue_drops_its_oldest_row_and_counts_it() -> None:
    source = queues(1, 2, bound=3)
    for sequence in range(1, 6):
        source.insert(unroll([0], sequence=sequence))
    assert source.counters[0].dropped_overflow == 2
    batch = source.next_batch(0.0)
    assert batch is not None
    assert (batch.reward[0] // 1000).tolist() == [3.0, 4.0]


def test_what_workers_that_came_later_have_under_way_fits_too() -> None:
    # Planned for one worker with one lane of each task; nine more come, as a cluster grows.
    source = queues(2, 2, target=1, bound=3, outstanding=2)
    for worker in range(10):
        for sequence in (1, 2):
            source.insert(unroll([0, 1], worker=worker, sequence=sequence))
    assert [counters.dropped_overflow for counters in source.counters] == [0, 0]
    # Ten workers have no more under way than that: what is beyond it drops the oldest.
    for sequence in range(3, 6):
        source.insert(unroll([0], sequence=sequence))
    assert [counters.dropped_overflow for counters in source.counters] == [2, 0]


def test_rows_of_old_weights_are_dropped_and_counted_and_the_rest_keep_their_order() -> None:
    source = queues(1, 2, lag=10)
    for sequence, version in enumerate((5, 25, 6, 26), start=1):
        source.insert(unroll([0], sequence=sequence, version=version))
    source.published(Weights(30, np.zeros(0, np.float32)))
    batch = source.next_batch(0.0)
    assert batch is not None
    assert batch.policy_version.tolist() == [25, 26]
    assert source.counters[0].dropped_stale == 2


def test_lag_is_measured_per_task_when_a_row_is_used() -> None:
    source = queues(2, 2)
    source.insert(unroll([0], worker=0, version=7))
    source.insert(unroll([1], worker=1, version=9))
    source.published(Weights(10, np.zeros(0, np.float32)))
    assert source.next_batch(0.0) is not None
    row = source.metrics()
    assert row["task/counting/0/lag"] == 3
    assert row["task/counting/1/lag"] == 1
    assert row["lag/mean"] == 2
    assert row["lag/max"] == 3
    assert "lag/mean" not in source.metrics()


def test_a_doubled_delivery_and_one_of_a_replaced_worker_are_refused() -> None:
    source = queues(1, 1)
    source.insert(unroll([0], incarnation=1, sequence=4))
    source.insert(unroll([0], incarnation=1, sequence=4))
    source.insert(unroll([0], incarnation=0, sequence=9))
    assert source.counters[0].rows == 1
    assert source.metrics()["replay/refused"] == 2
    source.insert(unroll([0], incarnation=2, sequence=1))
    assert source.counters[0].rows == 2


def test_deliveries_that_overtake_each_other_are_all_taken() -> None:
    source = queues(1, 1)
    for sequence in (1, 3, 2, 5, 4):
        source.insert(unroll([0], sequence=sequence))
    assert source.counters[0].rows == 5
    source.insert(unroll([0], sequence=3))
    assert source.metrics()["replay/refused"] == 1


def test_the_ledger_forgets_what_is_far_behind_and_refuses_it() -> None:
    ledger = DeliveryLedger()
    assert all(ledger.accept(0, 0, sequence) for sequence in range(1, 3 * WINDOW))
    assert not ledger.accept(0, 0, 1)
    assert not ledger.accept(0, 0, 3 * WINDOW - 1)
    assert ledger.accept(0, 0, 3 * WINDOW)
    assert ledger.accept(1, 0, 1)
    twin = DeliveryLedger()
    twin.restore(ledger.state())
    assert not twin.accept(0, 0, 3 * WINDOW)
    assert twin.accept(0, 0, 3 * WINDOW + 1)


def test_patience_outlasts_the_short_calls_of_a_prefetcher() -> None:
    source = queues(2, 4, patience_s=0.2)
    source.insert(unroll([0] * 6))
    prefetcher = Prefetcher(source, poll_s=0.05)
    try:
        batch = prefetcher.next_batch(10.0)
    finally:
        prefetcher.stop()
    assert batch is not None
    assert batch.task.tolist() == [0, 0, 0, 0]


def test_a_prefetcher_raises_what_its_source_raised() -> None:
    class Broken:
        def next_batch(self, timeout_s: float | None = None) -> Unroll | None:
            raise ValueError(f"a source that fails after {timeout_s} s")

    prefetcher = Prefetcher(Broken(), poll_s=0.01)
    with pytest.raises(ValueError, match="a source that fails"):
        prefetcher.next_batch(5.0)
    prefetcher.stop()


def test_there_is_room_until_every_task_has_its_target() -> None:
    source = queues(2, 2, target=2)
    source.insert(unroll([0, 0, 0]))
    assert source.has_room()
    source.insert(unroll([1, 1], sequence=2))
    assert not source.has_room()
    assert source.next_batch(0.0) is not None
    assert source.has_room()


def test_a_waiting_learner_wakes_as_soon_as_its_batch_is_complete() -> None:
    source = queues(1, 1)
    found: list[float] = []

    def take() -> None:
        assert source.next_batch(30.0) is not None
        found.append(time.monotonic())

    thread = threading.Thread(target=take)
    thread.start()
    time.sleep(0.05)
    source.insert(unroll([0]))
    thread.join(5.0)
    assert found


def test_closing_wakes_a_learner_that_waits_for_ever() -> None:
    source = queues(1, 1)
    results: list[object] = ["nothing yet"]
    thread = threading.Thread(target=lambda: results.append(source.next_batch(None)))
    thread.start()
    source.close()
    thread.join(5.0)
    assert results[-1] is None


def test_rows_in_are_rows_out_plus_rows_dropped_plus_rows_left() -> None:
    source = queues(3, 5, bound=7, lag=4, patience_s=0.0)
    generator = np.random.default_rng(0)
    used = 0
    for sequence in range(1, 200):
        lanes = generator.integers(0, 3, size=4).tolist()
        source.insert(unroll(lanes, sequence=sequence, version=int(generator.integers(0, 20))))
        source.published(Weights(int(generator.integers(0, 20)), np.zeros(0, np.float32)))
        if sequence % 2:
            batch = source.next_batch(0.0)
            used += batch.lanes if batch is not None else 0
    row = source.metrics()
    dropped = row["replay/dropped_overflow"] + row["replay/dropped_stale"]
    assert sum(c.rows for c in source.counters) == used + dropped + row["replay/rows"]
    assert dropped > 0
    assert used > 0


def test_restored_queues_give_the_same_batches() -> None:
    source = queues(2, 3)
    for sequence in range(1, 6):
        source.insert(unroll([0, 1, 1], sequence=sequence))
    source.next_batch(0.0)
    twin = queues(2, 3)
    twin.restore(source.state(contents=True))
    assert twin.steps == source.steps
    while (batch := source.next_batch(0.0)) is not None:
        other = twin.next_batch(0.0)
        assert other is not None
        np.testing.assert_array_equal(batch.observation, other.observation)
        np.testing.assert_array_equal(batch.task, other.task)
    assert twin.next_batch(0.0) is None
    # What was taken before the checkpoint is still refused after it.
    twin.insert(unroll([0, 1, 1], sequence=5))
    assert twin.metrics()["replay/refused"] == 1


def test_counters_follow_their_task_when_the_tasks_change() -> None:
    source = queues(2, 2)
    source.insert(unroll([0, 1, 1]))
    other = TrajectoryQueues(
        tasks(3)[1:2],
        batch_size=1,
        targets=[1],
        bounds=[1],
        max_policy_lag=1,
        patience_s=None,
    )
    other.restore(source.state(contents=False))
    assert other.counters[0].rows == 2


@pytest.mark.parametrize("task_count", [1, 2, 5])
def test_a_batch_never_mixes_lanes(task_count: int) -> None:
    source = queues(task_count, task_count * 2)
    source.insert(unroll(list(range(task_count)) * 3))
    batch = source.next_batch(0.0)
    assert batch is not None
    lanes = (batch.observation[:, :, 1] % 1000) // 10
    assert (lanes == lanes[0]).all()
    assert (batch.observation[:, :, 0] == batch.task).all()
