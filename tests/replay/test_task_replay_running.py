"""The replay keeps its ratio, holds actors back, and waits without losing or tearing anything."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from replay_play import Player, drained, made_up, replay_of, tasks

from repertory.types import ReplayBatch
from replay.limiter import SampleLimiter


@pytest.mark.parametrize(
    ("samples_per_insert", "batch_size"), [(128.0, 256), (1.0, 6), (0.3, 4), (2.5, 64)]
)
def test_the_ratio_is_kept_to_within_one_batch_over_a_long_run(
    samples_per_insert: float, batch_size: int
) -> None:
    source = replay_of(
        tasks(2),
        batch_size=batch_size,
        samples_per_insert=samples_per_insert,
        learning_starts=20,
        windows_every=0,
    )
    batches = 0
    for sequence in range(1, 200):
        source.insert(made_up([0, 1, 0], steps=3, sequence=sequence))
        batches += drained(source)
        per_task = [6 * sequence, 3 * sequence]
        owed = samples_per_insert * (sum(per_task) - 40) / batch_size
        if min(per_task) < 20:
            assert batches == 0
        else:
            assert owed - 1 < batches <= owed
    ratio = source.metrics()["replay/samples_per_insert"]
    assert ratio == pytest.approx(samples_per_insert, rel=0.05)


def test_actors_are_held_back_at_the_slack_and_let_go_as_batches_are_taken() -> None:
    source = replay_of(
        tasks(1), batch_size=4, samples_per_insert=2.0, learning_starts=10, slack=3.0, window=2
    )
    rooms = []
    for sequence in range(1, 20):
        source.insert(made_up([0], steps=2, sequence=sequence))
        rooms.append(source.has_room())
    # Each insertion is one batch after the first ten steps; three may wait, the fourth stops.
    assert rooms == [True] * 8 + [False] * 11
    for _ in range(10):
        assert source.next_batch(0.0) is not None
        assert not source.has_room()
    assert source.next_batch(0.0) is not None
    assert source.has_room()
    assert drained(source) == 3


@pytest.mark.parametrize("slack", [0.0, 0.4, 1.0, 7.3])
@pytest.mark.parametrize("samples_per_insert", [0.1, 1.0, 3.7, 128.0])
def test_actors_and_learner_never_wait_for_each_other(
    slack: float, samples_per_insert: float
) -> None:
    limiter = SampleLimiter(
        2, batch_size=10, learning_starts=3, samples_per_insert=samples_per_insert, slack=slack
    )
    random = np.random.default_rng(0)
    for _ in range(2000):
        assert limiter.has_room() or limiter.due()
        if limiter.due() and (not limiter.has_room() or random.random() < 0.5):
            limiter.taken += 1
        elif limiter.has_room():
            limiter.inserted += random.integers(0, 4, 2)


def test_a_replay_of_open_windows_only_asks_for_more() -> None:
    source = replay_of(tasks(1), window=50, learning_starts=1, slack=1.0)
    source.insert(made_up([0], steps=30))
    assert source.next_batch(0.0) is None
    assert source.has_room()


def test_without_a_due_batch_a_learner_waits_until_one_comes_or_its_time_is_up() -> None:
    source = replay_of(tasks(1))
    began = time.monotonic()
    assert source.next_batch(0.05) is None
    assert 0.05 <= time.monotonic() - began < 5.0
    taken: list[ReplayBatch | None] = []
    waiting = threading.Thread(target=lambda: taken.append(source.next_batch(None)))
    waiting.start()
    source.insert(made_up([0], steps=8))
    waiting.join(timeout=10.0)
    assert taken
    assert taken[0] is not None


def test_closing_wakes_a_waiting_learner() -> None:
    source = replay_of(tasks(1))
    taken: list[ReplayBatch | None] = []
    waiting = threading.Thread(target=lambda: taken.append(source.next_batch(None)))
    waiting.start()
    source.close()
    waiting.join(timeout=10.0)
    assert taken == [None]


def test_producers_and_a_consumer_on_threads_lose_and_tear_nothing() -> None:
    specs = tasks(3)
    source = replay_of(specs, capacity=3 * 8 * 4, batch_size=30, samples_per_insert=10.0, slack=5.0)
    rounds, torn = 150, []

    def produce(worker: int) -> None:
        player = Player([0, 1, 2], worker=worker, length=4)
        for _ in range(rounds):
            while not source.has_room():
                time.sleep(1e-4)
            source.insert(player.play(decide_every=3))

    def consume() -> None:
        while (batch := source.next_batch(None)) is not None:
            step, after = batch.observation, batch.next_observation
            same = (step[:, :2] == after[:, :2]).all() and (after[:, 2] == step[:, 2] + 1).all()
            if not same or (batch.reward != step[:, 2]).any():
                torn.append(batch)

    threads = [threading.Thread(target=produce, args=(worker,)) for worker in range(3)]
    learner = threading.Thread(target=consume)
    for thread in [*threads, learner]:
        thread.start()
    for thread in threads:
        thread.join(timeout=60.0)
    # What is still due is taken before the source closes.
    source.close()
    learner.join(timeout=60.0)
    assert not learner.is_alive()
    assert not torn
    metrics = source.metrics()
    assert metrics["replay/stream_breaks"] == 0
    assert source.steps == sum(
        int(Player([0, 1, 2], worker=w, length=4 * rounds).play().valid.sum()) for w in range(3)
    )
    due = 10 * (source.steps - 3)
    assert due - 30 < metrics["replay/samples_per_insert"] * (source.steps - 3) <= due
