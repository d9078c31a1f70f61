"""What is replayed is what was played: the counting environment tells on every row and window."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from replay_play import Player, made_up, replay_of, tasks

from repertory.ports import Experience
from repertory.types import ReplayBatch, Windows
from replay.task_replay import TaskReplay


def assert_played(batch: ReplayBatch) -> None:
    """Hold every row, and every step of every window, against the rules of the environment."""
    check_steps(
        batch.task,
        batch.observation,
        batch.action,
        batch.reward,
        batch.next_observation,
        batch.terminated,
        batch.truncated,
    )
    windows = batch.windows
    if windows is None:
        return
    for w, length in enumerate(windows.length.tolist()):
        assert 1 <= length <= len(windows.reward)
        last = np.arange(length) == length - 1
        check_steps(
            np.full(length, windows.task[w], np.int32),
            windows.observation[:length, w],
            windows.action[:length, w],
            windows.reward[:length, w],
            windows.observation[1 : length + 1, w],
            windows.terminated[w] & last,
            windows.truncated[w] & last,
        )
        assert not windows.observation[length + 1 :, w].any()
        assert not windows.action[length:, w].any()
        assert not windows.reward[length:, w].any()


def check_steps(
    task: np.ndarray,
    observation: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    after: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
) -> None:
    number, episode, step = observation.T
    np.testing.assert_array_equal(number, task)
    np.testing.assert_array_equal(action[:, 0], episode * 100 + step)
    np.testing.assert_array_equal(reward, step)
    # Also of a truncated episode: its own last observation, not the first of the next.
    np.testing.assert_array_equal(after.T, [number, episode, step + 1])
    over = step + 1 == 7 + task
    cut = over & ((episode + 1) % 3 == 0)
    np.testing.assert_array_equal(truncated, cut)
    np.testing.assert_array_equal(terminated, over & ~cut)


def rows_of(source: TaskReplay, batches: int) -> list[ReplayBatch]:
    """Take batches that must all be due, each held against the environment."""
    taken = []
    for _ in range(batches):
        batch = source.next_batch(0.0)
        assert batch is not None
        assert_played(batch)
        taken.append(batch)
    return taken


def seen_steps(batches: list[ReplayBatch]) -> set[tuple[float, ...]]:
    return {tuple(row) for batch in batches for row in batch.observation.tolist()}


def windows_of(batch: ReplayBatch) -> Windows:
    assert batch.windows is not None
    return batch.windows


def test_a_task_replay_is_an_experience() -> None:
    assert isinstance(replay_of(tasks()), Experience)


@pytest.mark.parametrize("length", [1, 5, 23])
@pytest.mark.parametrize("decide_every", [0, 3])
def test_every_sampled_step_is_one_that_was_played(length: int, decide_every: int) -> None:
    source, player = replay_of(tasks()), Player([0, 1, 2, 0, 2], length=length)
    for _ in range(120 // length):
        source.insert(player.play(decide_every=decide_every))
    batches = rows_of(source, 250)
    # Every closed step of every task can come up: with 120 steps a lane, some 100 apart at least.
    seen = seen_steps(batches)
    for task in range(3):
        own = [row for row in seen if row[0] == task]
        assert {row[2] for row in own} == set(range(7 + task))
        assert len(own) >= 0.9 * 120 * 7 / 8 - 7
    assert any(batch.truncated.any() for batch in batches)
    assert any(windows_of(batch).truncated.any() for batch in batches)


def test_windows_begin_at_decisions_and_at_episodes_starts_and_end_with_the_episode() -> None:
    source, player = replay_of(tasks(1), window=5), Player([0], length=4)
    for _ in range(30):
        source.insert(player.play(decide_every=3))
    for batch in rows_of(source, 30):
        windows = windows_of(batch)
        start = windows.observation[0, :, 2]
        assert set(start.tolist()) <= {0.0, 3.0, 6.0}
        np.testing.assert_array_equal(windows.length, np.minimum(3, 7 - start))
        np.testing.assert_array_equal(windows.terminated | windows.truncated, start == 6)


def test_windows_without_decisions_are_full_but_for_an_episodes_last() -> None:
    source, player = replay_of(tasks(1), window=4), Player([0], length=5)
    for _ in range(30):
        source.insert(player.play())
    for batch in rows_of(source, 20):
        windows = windows_of(batch)
        start = windows.observation[0, :, 2]
        assert set(start.tolist()) <= {0.0, 4.0}
        np.testing.assert_array_equal(windows.length, np.where(start == 0, 4, 3))


def test_what_has_not_closed_is_not_sampled() -> None:
    source, player = replay_of(tasks(1), window=6), Player([0], length=5)
    source.insert(player.play())
    assert source.next_batch(0.0) is None
    source.insert(player.play())
    # Steps 0 to 5 closed by length, 6 by the episode's end, 0 of the next is open after the reset.
    assert seen_steps(rows_of(source, 40)) == {(0.0, 0.0, float(step)) for step in range(7)}
    assert source.metrics()["replay/rows_open"] == 2
    assert source.metrics()["replay/rows"] == 7


def test_the_oldest_windows_of_a_task_make_room_for_its_newest() -> None:
    source, player = replay_of(tasks(2), capacity=2 * 10 * 4), Player([0, 1, 0], length=5)
    for _ in range(60):
        source.insert(player.play())
    batches = rows_of(source, 100)
    for task, lanes in ((0, 2), (1, 1)):
        episodes = {row[1] for row in seen_steps(batches) if row[0] == task}
        # Ten windows, two an episode.
        newest = 300 // (8 + task)
        assert min(episodes) >= newest - 10 / 2 / lanes - 1
        assert source.metrics()[f"task/counting/{task}/replay_fill"] == 1.0


def test_an_unroll_with_more_windows_than_a_ring_has_slots_leaves_the_newest() -> None:
    source = replay_of(tasks(2), capacity=2 * 3 * 2, window=2)
    source.insert(made_up([0, 1, 1], steps=4))
    source.insert(made_up([0, 1, 1], steps=20, sequence=2))
    # Of two lanes' windows that close at the same step, the later lane's is the newer.
    newest = {0: [35.0, 37.0, 39.0], 1: [10039.0, 20037.0, 20039.0]}
    rings = source.state(contents=True)["rings"]
    for task, first_steps in newest.items():
        ring = rings[f"counting/{task}"]
        assert sorted(ring["observation"][:, 0, 1].tolist()) == first_steps
        assert source.metrics()[f"task/counting/{task}/replay_rows"] == 6


def test_two_workers_are_not_mixed() -> None:
    source = replay_of(tasks())
    players = [Player([0, 1, 2], worker=0, length=3), Player([2, 1, 0], worker=1, length=7)]
    for player, _ in itertools.product(players, range(10)):
        source.insert(player.play(decide_every=5))
    for first, second in itertools.pairwise([0, 1, 0, 0, 1, 1, 0, 1]):
        source.insert(players[first].play())
        source.insert(players[second].play())
    rows_of(source, 100)
    assert source.metrics()["replay/stream_breaks"] == 0


def test_nothing_is_joined_across_a_lost_unroll() -> None:
    source, player = replay_of(tasks(1), window=7), Player([0], length=3)
    unrolls = [player.play() for _ in range(16)]
    lost = {2, 3, 8}
    for index, unroll in enumerate(unrolls):
        if index not in lost:
            source.insert(unroll)
    batches = rows_of(source, 80)
    gone = {
        tuple(row)
        for i in lost
        for row in unrolls[i].observation[:-1, 0][unrolls[i].valid[:, 0]].tolist()
    }
    played = {tuple(row) for u in unrolls for row in u.observation[:-1, 0][u.valid[:, 0]].tolist()}
    open_steps = int(source.metrics()["replay/rows_open"])
    assert seen_steps(batches) <= played - gone
    assert len(seen_steps(batches)) == len(played) - len(gone) - open_steps
    assert source.metrics()["replay/stream_breaks"] == 2


def test_a_replaced_workers_open_windows_close_and_its_late_unrolls_are_refused() -> None:
    source = replay_of(tasks(1), window=7)
    old, new = Player([0], length=3), Player([0], incarnation=1, length=3)
    source.insert(old.play())
    assert source.metrics()["replay/rows"] == 0
    source.insert(new.play())
    assert source.metrics()["replay/rows"] == 3
    late = old.play()
    source.insert(late)
    assert source.metrics()["replay/refused"] == 1
    assert source.steps == 6
    assert seen_steps(rows_of(source, 20)) == {(0.0, 0.0, float(step)) for step in range(3)}


def test_an_unroll_delivered_twice_is_taken_once() -> None:
    source, player = replay_of(tasks(1)), Player([0], length=8)
    unroll = player.play()
    source.insert(unroll)
    source.insert(unroll)
    assert source.steps == 7
    assert source.metrics()["replay/rows"] == 7


def test_overtaking_unrolls_shorten_windows_and_lose_no_step() -> None:
    source, player = replay_of(tasks(1), window=6), Player([0], length=4)
    unrolls = [player.play() for _ in range(12)]
    for index in (0, 2, 1, 3, 5, 4, 6, 7, 8, 9, 11, 10):
        source.insert(unrolls[index])
    rows_of(source, 50)
    metrics = source.metrics()
    assert metrics["replay/rows"] + metrics["replay/rows_open"] == source.steps
    assert source.steps == sum(int(unroll.valid.sum()) for unroll in unrolls)


def test_a_window_carries_the_guide_and_the_version_of_its_first_step() -> None:
    source = replay_of(tasks(2), window=4, batch_size=2, window_batch=8)
    guide = np.array([[1], [1], [0], [0], [0], [1]], np.int32)
    decision = np.array([[True], [False], [True], [False], [False], [True]])
    source.insert(made_up([0], steps=6, guide=guide, decision=decision))
    source.insert(made_up([1], steps=4, worker=1))
    late = made_up([0], steps=6, sequence=2, guide=guide, decision=decision)
    source.insert(replace(late, policy_version=np.array([9], np.int64)))
    ring = source.state(contents=True)["rings"]["counting/0"]
    assert ring["guide"].tolist() == [1, 0, 1, 1, 0]
    assert ring["length"].tolist() == [2, 3, 1, 2, 3]
    assert ring["policy_version"].tolist() == [0, 0, 0, 9, 9]
    batch = source.next_batch(0.0)
    assert batch is not None
    windows = windows_of(batch)
    by_first = {1.0: 1, 3.0: 0, 6.0: 1, 7.0: 1, 9.0: 0}
    own = windows.task == 0
    assert [by_first[first] for first in windows.observation[0, own, 1].tolist()] == windows.guide[
        own
    ].tolist()
