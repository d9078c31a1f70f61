"""The replay goes on to the bit after a checkpoint, or from nothing without debt or burst."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from replay_play import Player, assert_equal_batches, drained, made_up, replay_of, tasks

from repertory import checkpoint
from repertory.errors import BadInput
from repertory.seeding import stream
from repertory.types import Weights
from replay.task_replay import TaskReplay

LIVELY = {
    "capacity": 240,
    "samples_per_insert": 1.5,
    "window_batch": 7,
    "windows_every": 3,
    "learning_starts": 9,
}


def settled(**replaced: object) -> tuple[TaskReplay, Player]:
    """Return a replay in the middle of a run: rings wrapped, windows open, batches taken."""
    source = replay_of(tasks(), **{**LIVELY, **replaced})
    player = Player([0, 1, 2, 1], length=5)
    source.published(Weights(7, np.zeros(0, np.float32), np.array([True, False, True])))
    for _ in range(40):
        source.insert(player.play(decide_every=3, version=5))
        drained(source)
    return source, player


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


@pytest.mark.parametrize("contents", [True, False])
def test_guides_that_no_report_has_told_of_yet_are_in_the_checkpoint(
    tmp_path: Path, contents: bool
) -> None:
    source = replay_of(tasks())
    lanes = [0, 1, 2, 1]
    # An expert beyond the tasks acts in the last lane.
    guide = np.broadcast_to(np.array([1, 1, 0, 4], np.int32), (4, 4)).copy()
    source.insert(made_up(lanes, guide=guide))
    path = checkpoint.save(tmp_path, source.state(contents=contents), 1, 1)
    resumed = replay_of(tasks())
    resumed.restore(checkpoint.load(path))
    resumed.insert(made_up(lanes, sequence=2, guide=guide))
    expected = np.zeros((3, 5), np.int64)
    for task, acted in zip(lanes, guide[0], strict=True):
        expected[task, acted] += 8
    np.testing.assert_array_equal(resumed.guide_counts(), expected)
    # Of other tasks the numbers would mean others.
    fewer = replay_of(tasks(2))
    fewer.restore(checkpoint.load(path))
    assert not fewer.guide_counts().any()


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


def test_a_state_replaces_whatever_was_held() -> None:
    source, player = settled()
    used, _ = settled(samples_per_insert=1.5)
    used.restore(source.state(contents=False))
    fresh = replay_of(tasks(), **LIVELY)
    fresh.restore(source.state(contents=False))
    assert used.metrics()["replay/rows"] == used.metrics()["replay/rows_open"] == 0
    for _ in range(20):
        unroll = player.play(decide_every=3)
        used.insert(unroll)
        fresh.insert(unroll)
        while (batch := fresh.next_batch(0.0)) is not None:
            assert_equal_batches(batch, used.next_batch(0.0))
        assert used.next_batch(0.0) is None


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
