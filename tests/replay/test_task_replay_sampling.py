"""Every step of a task is as likely as any other, and every task has its share."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from replay_play import Player, made_up, replay_of, tasks
from scipy import stats

from repertory.errors import BadInput
from repertory.seeding import stream
from repertory.types import (
    ActionSpec,
    EpisodeRecord,
    GuidanceCounts,
    ObservationSpec,
    ReplayBatch,
    Weights,
)
from replay.task_replay import TaskReplay
from replay.window_ring import WindowRings


def taken(source: TaskReplay) -> ReplayBatch:
    batch = source.next_batch(0.0)
    assert batch is not None
    return batch


def with_decisions(
    lane_tasks: list[int], chance: float, *, steps: int, seed: int = 0
) -> TaskReplay:
    """Return a replay of windows of all lengths."""
    count = max(lane_tasks) + 1
    source = replay_of(tasks(count), window=6, batch_size=100 * count, window_batch=2 * count)
    random = np.random.default_rng(seed)
    decision = random.random((steps, len(lane_tasks))) < chance
    source.insert(made_up(lane_tasks, steps=steps, decision=decision))
    return source


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.97])
def test_every_step_held_is_equally_likely_however_long_its_window(chance: float) -> None:
    source = with_decisions([0, 1, 1], chance, steps=90)
    counts: Counter[tuple[float, ...]] = Counter()
    for _ in range(120):
        counts.update(map(tuple, taken(source).observation.tolist()))
    for task in range(2):
        own = [count for row, count in counts.items() if row[0] == task]
        held = int(source.metrics()[f"task/counting/{task}/replay_rows"])
        assert sum(own) == 120 * 100
        # A step that never came up would be missing here.
        assert len(own) == held
        assert stats.chisquare(own).pvalue > 1e-3


def test_one_long_window_among_short_ones_changes_no_steps_chance() -> None:
    source = replay_of(tasks(1), window=50, batch_size=1000, capacity=10_000)
    decision = np.ones((150, 1), np.bool_)
    decision[101:] = False
    source.insert(made_up([0], steps=150, decision=decision))
    # 100 windows of one step and one of fifty.
    counts: Counter[float] = Counter()
    for _ in range(30):
        counts.update(taken(source).observation[:, 1].tolist())
    assert len(counts) == 150
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_windows_of_a_task_are_equally_likely_and_drawn_without_replacement() -> None:
    source = with_decisions([0, 1], 0.3, steps=60)
    held = int(source._rings.filled[0])
    counts: Counter[float] = Counter()
    for _ in range(2000):
        windows = taken(source).windows
        assert windows is not None
        first = windows.observation[0, windows.task == 0, 1].tolist()
        assert len(set(first)) == 2
        counts.update(first)
    assert len(counts) == held
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_too_few_windows_are_drawn_with_replacement() -> None:
    source = replay_of(tasks(1), window=4, window_batch=10)
    source.insert(made_up([0], steps=12))
    windows = taken(source).windows
    assert windows is not None
    assert len(windows.task) == 10
    assert set(windows.observation[0, :, 1].tolist()) <= {1.0, 5.0, 9.0}


def test_rows_come_ordered_by_task_and_in_equal_numbers() -> None:
    source, player = replay_of(tasks(), batch_size=21), Player([0, 0, 0, 2, 1, 0], length=30)
    source.insert(player.play())
    for _ in range(20):
        batch = taken(source)
        assert batch.task.tolist() == [0] * 7 + [1] * 7 + [2] * 7
        assert batch.observation[:, 0].tolist() == batch.task.tolist()


def test_a_slow_task_holds_back_the_first_batch() -> None:
    source = replay_of(tasks(2), learning_starts=8, window=4)
    source.insert(made_up([0], steps=400))
    assert source.next_batch(0.0) is None
    assert source.has_room()
    source.insert(made_up([1], worker=1, steps=7))
    assert source.next_batch(0.0) is None
    assert source.has_room()
    source.insert(made_up([1], worker=1, steps=7, sequence=2))
    assert source.next_batch(0.0) is not None


def test_windows_come_from_guided_tasks_and_what_does_not_divide_goes_round() -> None:
    source = replay_of(tasks(), window_batch=7)
    source.insert(made_up([0, 1, 2], steps=60))
    none = np.zeros(0, np.float32)

    def shares(guided: list[bool] | None) -> list[list[int]]:
        mask = None if guided is None else np.array(guided)
        source.published(Weights(1, none, mask))
        drawn = []
        for _ in range(6):
            windows = taken(source).windows
            assert windows is not None
            assert windows.task.tolist() == sorted(windows.task.tolist())
            drawn.append(np.bincount(windows.task, minlength=3).tolist())
        return drawn

    thirds = shares(None)
    assert all(sum(one) == 7 and set(one) <= {2, 3} for one in thirds)
    assert np.sum(thirds, axis=0).tolist() == [14, 14, 14]
    assert np.sum(shares([True, False, True]), axis=0).tolist() == [21, 0, 21]
    assert all(one == [0, 7, 0] for one in shares([False, True, False]))
    # With none guided the guide learns from all (He et al. 2024).
    assert np.sum(shares([False, False, False]), axis=0).tolist() == [14, 14, 14]


@pytest.mark.parametrize(("every", "carried"), [(0, []), (1, [0, 1, 2, 3, 4, 5]), (3, [2, 5])])
def test_every_nth_batch_carries_windows(every: int, carried: list[int]) -> None:
    source = replay_of(tasks(1), windows_every=every)
    source.insert(made_up([0], steps=40))
    assert [u for u in range(6) if taken(source).windows is not None] == carried


def test_nothing_is_read_that_was_never_written() -> None:
    # The twins and the counting environment never see a NaN; here it is shown that one is there.
    rings = WindowRings(2, slots=3, window=2, observation_size=1, action_size=1, poison=True)
    assert np.isnan(rings.observation).all()
    assert np.isnan(rings.action).all()
    assert np.isnan(rings.reward).all()
    source = with_decisions([0, 1], 0.4, steps=20)
    assert np.isnan(source._rings.observation).any()
    for _ in range(50):
        batch = taken(source)
        windows = batch.windows
        assert windows is not None
        for array in (batch.observation, batch.next_observation, batch.action, batch.reward):
            assert np.isfinite(array).all()
        for array in (windows.observation, windows.action, windows.reward):
            assert np.isfinite(array).all()


def test_a_batch_is_a_copy_that_later_steps_do_not_change() -> None:
    source = replay_of(tasks(1), capacity=8, window=4)
    source.insert(made_up([0], steps=8))
    batch = taken(source)
    before = batch.observation.copy()
    source.insert(made_up([0], steps=8, sequence=2))
    np.testing.assert_array_equal(batch.observation, before)


def test_lag_and_age_are_of_the_rows_that_were_sampled() -> None:
    source = replay_of(tasks(2), window=4, capacity=1000)
    source.insert(made_up([0, 1], steps=4))
    late = made_up([0], worker=1, steps=8)
    source.insert(replace(late, policy_version=np.array([6], np.int64)))
    source.published(Weights(10, np.zeros(0, np.float32)))
    batches = [taken(source) for _ in range(25)]
    # Task 0: four rows of version 0 after which eight steps came, eight of version 6 after none.
    old = np.concatenate([b.observation[:4, 1] < 1e6 for b in batches]).mean()
    assert 0.1 < old < 0.6
    row = source.metrics()
    assert row["task/counting/0/lag"] == pytest.approx(old * 10 + (1 - old) * 4)
    assert row["task/counting/0/replay_age"] == pytest.approx(old * 8)
    assert row["task/counting/1/lag"] == 10
    assert row["task/counting/1/replay_age"] == 0
    assert row["lag/max"] == 10
    assert row["lag/mean"] == pytest.approx((row["task/counting/0/lag"] + 10) / 2)
    assert "lag/mean" not in source.metrics()


def test_guides_are_counted_by_task_since_the_last_report() -> None:
    source = replay_of(tasks(2))
    guide = np.array([[0, 1], [1, 1], [1, 0], [0, 3]], np.int32)
    valid = np.array([[True, True], [True, True], [True, False], [False, True]])
    source.insert(made_up([0, 1], guide=guide, valid=valid))
    assert source.guide_counts().tolist() == [[1, 2, 0, 0], [0, 2, 0, 1]]
    assert source.guide_counts().sum() == 0
    row = source.metrics()
    assert row["task/counting/0/guided"] == pytest.approx(2 / 3)
    assert row["task/counting/1/guided"] == pytest.approx(1 / 3)
    source.insert(made_up([0, 1], sequence=2))
    assert source.metrics()["task/counting/0/guided"] == 0


def test_shares_of_choices_are_over_all_unrolls_since_the_last_report() -> None:
    source = replay_of(tasks(2))
    source.insert(made_up([0, 1], guidance=_counts([6, 4], [12, 8], [3, 8], [4, 0])))
    source.insert(made_up([0], sequence=2, guidance=_counts([2, 0], [4, 0], [1, 0], [1, 0])))
    source.insert(made_up([1], sequence=3))
    row = source.metrics()
    assert row["task/counting/0/guide_filtered"] == pytest.approx(12 / 16)
    assert row["task/counting/0/guide_fallback"] == pytest.approx(5 / 8)
    assert row["task/counting/1/guide_filtered"] == row["task/counting/1/guide_fallback"] == 0
    assert row["actor/guide_filtered"] == pytest.approx(12 / 24)
    assert row["actor/guide_fallback"] == pytest.approx(5 / 12)
    assert "actor/guide_trial" not in row
    assert not [
        name for name in source.metrics() if "guide_" in name or name == "actor/guide_filtered"
    ]


def test_the_share_of_trials_is_reported_of_choosers_that_try_candidates_out() -> None:
    source = replay_of(tasks(2))
    source.insert(made_up([0, 1], guidance=_counts([6, 4], trials=[3, 0])))
    row = source.metrics()
    assert row["task/counting/0/guide_trial"] == 0.5
    assert row["task/counting/1/guide_trial"] == 0
    assert row["actor/guide_trial"] == pytest.approx(3 / 10)
    assert "task/counting/0/guide_filtered" not in row
    source.insert(made_up([0, 1], sequence=2, guidance=_counts([6, 4])))
    assert source.metrics()["actor/guide_trial"] == 0


def _counts(
    choices: list[int],
    candidates: list[int] | None = None,
    passed: list[int] | None = None,
    fallbacks: list[int] | None = None,
    trials: list[int] | None = None,
) -> GuidanceCounts:
    lists = (choices, candidates, passed, fallbacks, trials)
    return GuidanceCounts(*(np.array(one or [0, 0], np.int64) for one in lists))


def test_a_run_without_a_guide_reports_no_share_of_guided_steps() -> None:
    source = replay_of(tasks(2))
    source.insert(made_up([0, 1]))
    assert not [name for name in source.metrics() if name.endswith("/guided")]
    assert source.guide_counts().tolist() == [[4, 0], [0, 4]]


def test_the_success_rate_is_over_the_latest_hundred_episodes_that_tell() -> None:
    source = replay_of(tasks(3))

    def record(task: int, success: bool | None) -> EpisodeRecord:
        return EpisodeRecord(task, 1.0, 5, success=success)

    episodes = [record(0, True)] * 30 + [record(0, False)] * 60 + [record(0, True)] * 40
    episodes += [record(1, False), record(1, None), record(1, True), record(2, None)]
    source.insert(made_up([0, 1, 2], episodes=tuple(episodes)))
    rate = taken(source).success_rate
    assert rate[:2].tolist() == pytest.approx([0.4, 0.5])
    assert math.isnan(rate[2])
    assert source.drain_episodes() == episodes
    assert source.drain_episodes() == []


def test_what_a_step_costs_is_what_is_documented() -> None:
    assert rings_of(39, 4).bytes_per_row == pytest.approx(194.2)
    assert rings_of(17, 6).bytes_per_row == pytest.approx(105.4)


def rings_of(observation_size: int, action_size: int) -> WindowRings:
    return WindowRings(
        2, slots=3, window=10, observation_size=observation_size, action_size=action_size
    )


def test_what_replay_cannot_hold_is_refused() -> None:
    specs = tasks(3)
    with pytest.raises(BadInput, match=r"learner.batch_size 10 must be a multiple of the 3 tasks"):
        replay_of(specs, batch_size=10)
    with pytest.raises(BadInput, match=r"replay.capacity 11 is too small.*at least 12"):
        replay_of(specs, capacity=11)
    discrete = replace(specs[1], action=ActionSpec("discrete", 4))
    with pytest.raises(BadInput, match=r"counting/1 has discrete actions"):
        replay_of((specs[0], discrete, specs[2]))
    image = replace(specs[0], observation=ObservationSpec((8, 8), "uint8"))
    with pytest.raises(BadInput, match=r"uint8 observations of shape \[8, 8\]"):
        replay_of((image,))
    wider = replace(specs[2], observation=ObservationSpec((5,), "float32"))
    with pytest.raises(BadInput, match=r"counting/2 and counting/0 cannot share a replay"):
        replay_of((specs[0], specs[1], wider))


def test_the_same_stream_draws_the_same_batches() -> None:
    one, other = (
        replay_of(tasks(1), generator=stream(3, "replay"), batch_size=64) for _ in range(2)
    )
    different = replay_of(tasks(1), generator=stream(4, "replay"), batch_size=64)
    for source in (one, other, different):
        source.insert(made_up([0], steps=200))
    first = taken(one).observation
    np.testing.assert_array_equal(first, taken(other).observation)
    assert (first != taken(different).observation).any()
