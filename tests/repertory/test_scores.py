"""Normalised scores and their aggregates, held to worked and published examples and scipy."""

from __future__ import annotations

import csv
import itertools
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from envs.atari.catalog import modes, parse
from repertory.scores import aggregates
from repertory.scores.normalise import human_ranges, normalised

# Two tasks, four runs: task means 2.5 and 0.25.
WORKED = np.array([[1.0, 0.1], [2.0, 0.2], [3.0, 0.3], [4.0, 0.4]])

PUBLISHED = Path(__file__).with_name("published_scores.csv")


def published_scores(agent: str) -> np.ndarray:
    """Return the human-normalised scores [5 runs, 26 games] of an agent of Atari 100k."""
    ranges = {parse(name).game: found for name, found in human_ranges().items()}
    with PUBLISHED.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    played = [row for row in rows if row["agent"] == agent]
    returns = np.array([[float(row[f"run_{run}"]) for row in played] for run in range(1, 6)])
    ends = np.array([ranges[row["game"]] for row in played])
    assert returns.shape == (5, 26)
    return normalised(returns, ends[:, 0], ends[:, 1])


def random_scores(runs: int = 5, tasks: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.8, 0.5, (runs, tasks))


def test_random_play_scores_zero_and_the_reference_one():
    random, reference = np.array([1.7, -20.7]), np.array([30.5, 14.6])
    scores = normalised(np.stack([random, reference, [16.1, -3.05]]), random, reference)
    np.testing.assert_allclose(scores, [[0, 0], [1, 1], [0.5, 0.5]])


@pytest.mark.parametrize("reference", [1.7, 0.5, float("nan")])
def test_a_reference_that_is_not_above_random_play_is_refused(reference):
    with pytest.raises(ValueError, match=r"task 0: random play has 1\.7"):
        normalised(np.array([[2.0]]), np.array([1.7]), np.array([reference]))


def test_the_human_table_has_57_tasks_that_the_emulator_knows():
    ranges = human_ranges()
    assert len(ranges) == 57
    assert len({parse(name).game for name in ranges}) == 57
    assert ranges["atari/breakout/m0d0"] == (1.7, 30.5)
    assert ranges["atari/yars_revenge/m0d0"] == (3092.9, 54576.9)
    assert ranges["atari/centipede/m22d0"] == (2090.9, 12017.0)


def test_only_default_variants_have_human_scores():
    games = [parse(name) for name in human_ranges()]
    assert all(task.difficulty == 0 and task.mode == modes(task.game)[0] for task in games)
    assert "atari/breakout/m4d0" not in human_ranges()
    assert "metaworld/reach" not in human_ranges()


def test_the_aggregates_of_a_worked_example():
    # Sorted: .1 .2 .3 .4 1 2 3 4; the middle half is .3 .4 1 2.
    assert aggregates.interquartile_mean(WORKED) == pytest.approx(0.925)
    assert aggregates.mean(WORKED) == pytest.approx(1.375)
    assert aggregates.median(WORKED) == pytest.approx(1.375)
    # Above 1 counts as 1: (4 x 1 + 1.0) / 8 of what could be had.
    assert aggregates.optimality_gap(WORKED) == pytest.approx(1 - 5.0 / 8)


def test_the_median_is_of_the_tasks_means():
    scores = np.array([[0.0, 10.0, 1.0], [4.0, 0.0, 1.0]])
    assert aggregates.median(scores) == 2.0  # task means 2, 5, 1
    assert np.median(scores) == 1.0


def test_the_interquartile_mean_equals_its_slow_twin():
    scores = random_scores(8, 7)
    ordered = sorted(scores.ravel())
    quarter = len(ordered) // 4
    twin = statistics.fmean(ordered[quarter:-quarter])
    assert aggregates.interquartile_mean(scores) == pytest.approx(twin)


def test_outliers_leave_the_interquartile_mean_alone():
    scores = random_scores()
    spoiled = scores.copy()
    spoiled[np.unravel_index(scores.argmax(), scores.shape)] = 1e6
    assert aggregates.interquartile_mean(spoiled) == aggregates.interquartile_mean(scores)


@pytest.mark.parametrize("name", aggregates.STATISTICS)
def test_a_stack_of_resamples_is_aggregated_one_by_one(name):
    statistic = aggregates.STATISTICS[name]
    drawn = aggregates.resampled(random_scores(), np.random.default_rng(1), 6)
    np.testing.assert_allclose(statistic(drawn), [statistic(one) for one in drawn])


def test_runs_are_resampled_within_each_task_and_tasks_apart():
    scores = np.arange(12.0).reshape(3, 4)
    drawn = aggregates.resampled(scores, np.random.default_rng(2), 400)
    assert drawn.shape == (400, 3, 4)
    for task in range(4):
        assert set(np.unique(drawn[..., task])) == set(scores[:, task])
    # Whole runs would keep tasks together: then every row would be one of the three.
    rows = {tuple(row) for row in drawn.reshape(-1, 4)}
    assert len(rows) == 3**4


@pytest.mark.parametrize("name", aggregates.STATISTICS)
def test_intervals_agree_with_the_bootstrap_of_scipy(name):
    scores = random_scores(6, 5)
    statistic = aggregates.STATISTICS[name]
    ours = aggregates.estimate(scores, statistic, np.random.default_rng(3))
    twin = stats.bootstrap(
        tuple(scores.T),
        lambda *columns, axis: statistic(np.stack([np.moveaxis(c, axis, -1) for c in columns], -1)),
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(4),
    ).confidence_interval
    width = twin.high - twin.low
    assert ours.low == pytest.approx(twin.low, abs=0.12 * width)
    assert ours.high == pytest.approx(twin.high, abs=0.12 * width)
    assert ours.low < ours.value < ours.high


@pytest.mark.parametrize(("runs", "known"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_runs_have_a_value_and_no_interval(runs, known):
    few, generator = WORKED[:runs], np.random.default_rng(0)
    found = aggregates.estimate(few, aggregates.mean, generator)
    assert found.value == pytest.approx(few.mean())
    against = aggregates.improvement(few, WORKED, generator)
    turned = aggregates.improvement(WORKED, few, generator)
    for one in (found, against, turned):
        assert np.isfinite([one.low, one.high]).all() == known
    assert np.isfinite(aggregates.student_interval(few)).all() == known


def test_a_profile_falls_from_one_to_zero_and_counts_strictly():
    thresholds = np.array([-1.0, 0.1, 0.35, 1.0, 4.0])
    profile = aggregates.performance_profile(WORKED, thresholds)
    np.testing.assert_allclose(profile, [1, 7 / 8, 5 / 8, 3 / 8, 0])
    low, high = aggregates.profile_band(WORKED, thresholds, np.random.default_rng(0))
    assert (low <= profile).all()
    assert (profile <= high).all()
    assert (low < high)[1:4].all()


def test_the_probability_of_improvement_is_the_mann_whitney_statistic_over_the_pairs():
    first, second = random_scores(5, 3, seed=1).round(1), random_scores(4, 3, seed=2).round(1)
    value = aggregates.probability_of_improvement(first, second)
    of_scipy = stats.mannwhitneyu(first, second, axis=0, method="asymptotic").statistic / (5 * 4)
    assert value == pytest.approx(of_scipy.mean())
    slow = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for task in range(3)
        for a, b in itertools.product(first[:, task], second[:, task])
    ]
    assert value == pytest.approx(statistics.fmean(slow))


def test_improvement_is_a_half_against_oneself_and_one_against_worse():
    assert aggregates.probability_of_improvement(WORKED, WORKED) == 0.5
    sure = aggregates.improvement(WORKED + 10, WORKED, np.random.default_rng(0))
    assert sure == (1.0, 1.0, 1.0)
    both = aggregates.improvement(WORKED, WORKED, np.random.default_rng(0))
    assert both.low < 0.5 < both.high


def test_students_interval_of_a_worked_example():
    # Mean 2, standard deviation 1, three runs: 4.303 / sqrt(3).
    half = aggregates.student_interval(np.array([[1.0], [2.0], [3.0]]))
    assert half == pytest.approx([4.30265 / np.sqrt(3)], rel=1e-4)


# Alonso et al. 2024, table 1: means and interquartile means of all three agents.
@pytest.mark.parametrize(
    ("agent", "mean", "interquartile_mean"),
    [("simple", 0.332, 0.130), ("twm", 0.956, 0.459), ("diamond", 1.459, 0.641)],
)
def test_published_runs_give_the_aggregates_that_were_published_of_them(
    agent, mean, interquartile_mean
):
    scores = published_scores(agent)
    assert round(float(aggregates.mean(scores)), 3) == mean
    assert round(float(aggregates.interquartile_mean(scores)), 3) == interquartile_mean


def test_mean_and_median_of_published_runs_are_those_of_rliable_to_the_last_digits():
    # Printed in the notebook of Agarwal et al. 2021 (google-research/rliable).
    scores = published_scores("simple")
    assert aggregates.mean(scores) == pytest.approx(0.3319978533732483, rel=1e-12)
    assert aggregates.median(scores) == pytest.approx(0.13405558483729887, rel=1e-12)


# Intervals of SimPLe's five runs (50,000 resamples) in Agarwal et al. 2021, the figure of
# aggregates on Atari 100k in the same notebook: drawn and nowhere printed, so read off the picture,
# to two of its pixels.
@pytest.mark.parametrize(
    ("name", "low", "high", "pixel"),
    [
        ("interquartile mean", 0.098, 0.167, 0.0017),
        ("mean", 0.283, 0.379, 0.0032),
        ("median", 0.084, 0.165, 0.0021),
        ("optimality gap", 0.692, 0.766, 0.0016),
    ],
)
def test_intervals_of_published_runs_are_those_that_were_published(name, low, high, pixel):
    ours = aggregates.estimate(
        published_scores("simple"), aggregates.STATISTICS[name], np.random.default_rng(5)
    )
    assert ours.low == pytest.approx(low, abs=2 * pixel)
    assert ours.high == pytest.approx(high, abs=2 * pixel)


def test_the_examples_that_rliable_is_tested_with_give_the_same_here():
    first = np.array([[1.0, 2], [2, 2], [1, 1], [2, 1]])
    second = np.array([[1.0, 1], [2, 2], [3, 3]])
    for scores, value in ((first, 1.5), (second, 2.0)):
        assert aggregates.interquartile_mean(scores) == value
        assert aggregates.mean(scores) == value
        assert aggregates.median(scores) == value
    assert aggregates.probability_of_improvement(first, second) == pytest.approx(1 / 3)
