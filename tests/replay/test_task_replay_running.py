"""The replay keeps its ratio, waits without spinning, and goes on to the bit after a checkpoint."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from replay_play import Player, assert_equal_batches, made_up, replay_of, tasks

from repertory import checkpoint
from repertory.errors import BadInput
from repertory.seeding import stream
from repertory.types import ReplayBatch, Weights
from replay.limiter import SampleLimiter
from replay.task_replay import TaskReplay


def drained(source: TaskReplay) -> int:
    """Take every batch that is due and return their number."""
    count = 0
    while source.next_batch(0.0) is not None:
        count += 1
    return count


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


def settled(**replaced: object) -> tuple[TaskReplay, Player]:
    """Return a replay in the middle of a run: rings wrapped, windows open, batches taken."""
    source = replay_of(tasks(), **{**LIVELY, **replaced})
    player = Player([0, 1, 2, 1], length=5)
    source.published(Weights(7, np.zeros(0, np.float32), np.array([True, False, True])))
    for _ in range(40):
        source.insert(player.play(decide_every=3, version=5))
        drained(source)
    return source, player


LIVELY = {
    "capacity": 240,
    "samples_per_insert": 1.5,
    "window_batch": 7,
    "windows_every": 3,
    "learning_starts": 9,
}


def test_after_a_checkpoint_with_contents_the_next_batches_are_equal_to_the_bit(
    tmp_path: Path,
) -> None:
    source, player = settled()
    path = checkpoint.save(tmp_path, source.state(contents=True), 1, 1)
    other = replay_of(tasks(), **LIVELY, generator=stream(99, "elsewhere"))
    other.restore(checkpoint.load(path))
    count = 0
    for _ in range(30):
        unroll = player.play(decide_every=3, version=6)
        source.insert(unroll)
        other.insert(unroll)
        assert source.has_room() == other.has_room()
        while (batch := source.next_batch(0.0)) is not None:
            assert_equal_batches(batch, other.next_batch(0.0))
            count += 1
        assert other.next_batch(0.0) is None
    assert count > 30
    mine, theirs = source.metrics(), other.metrics()
    exact = [
        name for name in mine if name.startswith("replay/") or name.endswith(("rows", "steps"))
    ]
    assert [mine[name] for name in exact] == [theirs[name] for name in exact]


def test_a_state_is_a_copy_that_later_steps_do_not_change() -> None:
    source, player = settled()
    state = source.state(contents=True)
    before = {
        name: {key: np.copy(value) for key, value in ring.items()}
        for name, ring in state["rings"].items()
    }
    for _ in range(40):
        source.insert(player.play())
    for name, ring in state["rings"].items():
        for key, value in ring.items():
            np.testing.assert_array_equal(value, before[name][key])


def test_without_contents_every_task_starts_again_and_the_ratio_is_counted_from_there() -> None:
    source, player = settled(samples_per_insert=6.0)
    steps, batches = source.steps, source.state(contents=False)["batches"]
    resumed = replay_of(tasks(), **{**LIVELY, "samples_per_insert": 6.0})
    resumed.restore(source.state(contents=False))
    assert resumed.steps == steps
    assert resumed.metrics()["replay/rows"] == 0
    assert resumed.has_room()
    assert resumed.next_batch(0.0) is None
    taken, per_task = 0, np.zeros(3)
    for _ in range(60):
        unroll = player.play()
        resumed.insert(unroll)
        per_task += np.bincount(unroll.task, unroll.valid.sum(axis=0), minlength=3)
        taken += drained(resumed)
        owed = 6.0 * (per_task.sum() - 27) / 12
        if per_task.min() < 9:
            assert taken == 0
        else:
            assert owed - 1 < taken <= owed
    assert taken > 100
    assert resumed.state(contents=False)["batches"] == batches + taken
    assert resumed.steps == steps + per_task.sum()


def test_an_unroll_taken_before_a_checkpoint_is_refused_after_it() -> None:
    source = replay_of(tasks(1))
    unroll = made_up([0], steps=8)
    source.insert(unroll)
    for contents in (False, True):
        resumed = replay_of(tasks(1))
        resumed.restore(source.state(contents=contents))
        resumed.insert(unroll)
        assert resumed.steps == 8
        assert resumed.metrics()["replay/refused"] == 1


def test_tasks_are_matched_by_name_and_guides_take_their_new_numbers() -> None:
    source = replay_of(tasks(3), window=2)
    guide = np.array([[0, 2, 2], [0, 2, 2], [1, 0, 0], [1, 0, 0]], np.int32)
    source.insert(made_up([0, 1, 2], guide=guide))
    specs = tasks(3)
    order = (replace(specs[2], index=0), replace(specs[0], index=1))
    resumed = replay_of(order, window=2, batch_size=8)
    resumed.restore(source.state(contents=True))
    rings = resumed.state(contents=True)["rings"]
    # Of (1, 2, 0) counting/1 is no more: the windows it guided count as the task's own.
    assert rings["counting/2"]["guide"].tolist() == [0, 1]
    assert rings["counting/0"]["guide"].tolist() == [1, 1]
    assert resumed.next_batch(0.0) is None
    resumed.insert(made_up([0, 1], worker=5))
    batch = resumed.next_batch(0.0)
    assert batch is not None
    assert batch.task.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize("capacity", [3 * 4 * 3, 3 * 4 * 100])
def test_a_ring_of_another_size_takes_up_the_newest_windows(capacity: int) -> None:
    source = replay_of(tasks(3), window=4, capacity=3 * 4 * 5)
    for sequence in range(1, 8):
        source.insert(made_up([0, 1, 2], sequence=sequence))
    resumed = replay_of(tasks(3), window=4, capacity=capacity)
    resumed.restore(source.state(contents=True))
    ring = resumed.state(contents=True)["rings"]["counting/0"]
    kept = min(5, capacity // 12)
    newest = [float(1 + 4 * index) for index in range(7)][-kept:]
    assert ring["observation"][:, 0, 1].tolist() == newest
    assert resumed.metrics()["task/counting/0/replay_rows"] == 4 * kept
    # The next window takes the place of the oldest, or a free one.
    resumed.insert(made_up([0, 1, 2], sequence=8))
    ring = resumed.state(contents=True)["rings"]["counting/0"]
    assert sorted(ring["observation"][:, 0, 1].tolist()) == sorted(
        ([*newest, 29.0])[-(capacity // 12) :]
    )


def test_under_another_ratio_a_resumed_run_owes_no_updates() -> None:
    source, player = settled(samples_per_insert=0.5)
    resumed = replay_of(tasks(), **{**LIVELY, "samples_per_insert": 50.0})
    resumed.restore(source.state(contents=True))
    assert resumed.metrics()["replay/rows"] == source.metrics()["replay/rows"] > 0
    assert drained(resumed) == 0
    for _ in range(3):
        resumed.insert(player.play())
    assert drained(resumed) <= 50.0 * 60 / 12


def test_contents_of_another_window_or_size_are_refused() -> None:
    source = replay_of(tasks(1), window=4)
    source.insert(made_up([0]))
    state = source.state(contents=True)
    with pytest.raises(BadInput, match=r"windows of 4 steps, this run has windows of 5"):
        replay_of(tasks(1), window=5).restore(state)
    wider = replace(tasks(1)[0], action=replace(tasks(1)[0].action, size=2))
    with pytest.raises(BadInput, match=r"counting/0 .* 3 and 1 numbers, this run has 3 and 2"):
        replay_of((wider,), window=4).restore(state)
