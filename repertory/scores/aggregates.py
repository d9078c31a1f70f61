"""One number for many runs on many tasks, with its uncertainty (Agarwal et al. 2021).

Trimming is scipy's; the bootstrap is a line of numpy, and tests hold its intervals to scipy's and
to published ones. scipy's takes every task as an argument of its own (for two groups on 50 tasks
that is a hundred), while all statistics here are functions of one array of all tasks.

Axes: S runs, M tasks, R resamples, K thresholds; `*R` is none or one axis of resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

Statistic = Callable[[Float[np.ndarray, "*R S M"]], Float[np.ndarray, "*R"]]
RESAMPLES = 2_000
LEVEL = 0.95
RUNS_OF_INTERVAL = 3
"""Fewer runs have no interval. Two have Student's, 12.7 standard errors wide, which says nothing
and hides the rest; and a bootstrapped one, which holds the truth every other time."""
RUNS_OF_VERDICT = 4
"""With fewer runs on a side a bootstrapped interval is too narrow to call one side the better."""


class Estimate(NamedTuple):
    """A number and the ends of its interval; NaN ends where runs are too few to tell of others."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: Float[np.ndarray, "*R S M"]) -> Float[np.ndarray, "*R"]:
    """Return the mean of the middle half of all runs' scores on all tasks."""
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.asarray(stats.trim_mean(flat, 0.25, axis=-1))


def mean(scores: Float[np.ndarray, "*R S M"]) -> Float[np.ndarray, "*R"]:
    """Return the mean over runs and tasks."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def median(scores: Float[np.ndarray, "*R S M"]) -> Float[np.ndarray, "*R"]:
    """Return the median over tasks of the mean over runs."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def optimality_gap(scores: Float[np.ndarray, "*R S M"]) -> Float[np.ndarray, "*R"]:
    """Return by how much scores fall short of 1, where what is above 1 counts as 1."""
    return np.asarray(1.0 - np.minimum(scores, 1.0).mean(axis=(-2, -1)))


STATISTICS: dict[str, Statistic] = {
    "interquartile mean": interquartile_mean,
    "mean": mean,
    "median": median,
    "optimality gap": optimality_gap,
}
"""In the order in which they are shown; of the last, less is better."""


def resampled(
    scores: Float[np.ndarray, "S M"], generator: np.random.Generator, count: int = RESAMPLES
) -> Float[np.ndarray, "R S M"]:
    """Draw S runs with replacement within each task, `count` times: the stratified bootstrap."""
    runs, tasks = scores.shape
    drawn = generator.integers(runs, size=(count, runs, tasks))
    return scores[drawn, np.arange(tasks)]


def estimate(
    scores: Float[np.ndarray, "S M"], statistic: Statistic, generator: np.random.Generator
) -> Estimate:
    """Return a statistic with its 95 % percentile interval over resampled runs, from three on.

    The tasks of a run are resampled apart, as if they were independent: where one seed learns them
    together, the interval is narrower than it should be, and with few runs it is so anyway.
    """
    value = float(statistic(scores))
    if len(scores) < RUNS_OF_INTERVAL:
        return Estimate(value, float("nan"), float("nan"))
    low, high = interval(statistic(resampled(scores, generator)))
    return Estimate(value, float(low), float(high))


def performance_profile(
    scores: Float[np.ndarray, "*R S M"], thresholds: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "*R K"]:
    """Return the share of runs and tasks that score more than each threshold."""
    return np.stack([(scores > limit).mean(axis=(-2, -1)) for limit in thresholds], axis=-1)


def profile_band(
    scores: Float[np.ndarray, "S M"],
    thresholds: Float[np.ndarray, " K"],
    generator: np.random.Generator,
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Return the lower and upper ends of the profile's pointwise 95 % intervals."""
    return interval(performance_profile(resampled(scores, generator), thresholds))


def probability_of_improvement(
    first: Float[np.ndarray, "*R S M"], second: Float[np.ndarray, "*R S2 M"]
) -> Float[np.ndarray, "*R"]:
    """Return how often a run of `first` beats one of `second`, mean over tasks; ties count half.

    The Mann-Whitney statistic of each task over its number of pairs.
    """
    left, right = first[..., :, None, :], second[..., None, :, :]
    wins = (left > right) + 0.5 * (left == right)
    return np.asarray(wins.mean(axis=(-3, -2, -1)))


def improvement(
    first: Float[np.ndarray, "S M"],
    second: Float[np.ndarray, "S2 M"],
    generator: np.random.Generator,
) -> Estimate:
    """Return the probability of improvement with its 95 % interval, both sides resampled.

    There is none where a side has fewer than three runs.
    """
    value = float(probability_of_improvement(first, second))
    if min(len(first), len(second)) < RUNS_OF_INTERVAL:
        return Estimate(value, float("nan"), float("nan"))
    drawn = probability_of_improvement(resampled(first, generator), resampled(second, generator))
    low, high = interval(drawn)
    return Estimate(value, float(low), float(high))


def interval(
    drawn: Float[np.ndarray, "R *K"],
) -> tuple[Float[np.ndarray, "*K"], Float[np.ndarray, "*K"]]:
    """Return the middle 95 % of resampled statistics."""
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def student_interval(values: Float[np.ndarray, "S *K"]) -> Float[np.ndarray, "*K"]:
    """Return the half width of the mean's 95 % interval by Student's t; NaN below three runs."""
    runs = len(values)
    if runs < RUNS_OF_INTERVAL:
        return np.full(values.shape[1:], np.nan)
    error = values.std(axis=0, ddof=1) / np.sqrt(runs)
    return np.asarray(error * stats.t.ppf(0.5 + LEVEL / 2.0, runs - 1))
