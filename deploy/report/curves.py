"""Joins the seeds of a group into one curve with its interval.

Axes: S seeds, K points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from deploy.report.runs import Group, ReportedRun
from repertory.scores.aggregates import student_interval

Points = tuple[Float64[np.ndarray, "_"], Float64[np.ndarray, "_"]]
"""Agent steps and values, as many as there are."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What a group's seeds have in common, where all of them have come; and each seed by itself."""

    group: int
    x: Float64[np.ndarray, " K"]
    middle: Float64[np.ndarray, " K"]
    low: Float64[np.ndarray, " K"]
    high: Float64[np.ndarray, " K"]
    """Ends of the 95 % interval; NaN for too few seeds."""
    seeds: Sequence[Points]

    @property
    def last(self) -> tuple[float, float]:
        """Mean at the line's end, which all seeds have come to, and half the width of its interval;
        NaN where seeds have no step in common.
        """
        if not len(self.x):
            return float("nan"), float("nan")
        values = np.array([np.interp(self.x[-1], x, y) for x, y in self.seeds])
        return float(values.mean()), half_width(values)


def by_seed(group: Group) -> list[list[ReportedRun]]:
    """Return what counts as one seed each: a run, or one seed's runs tuned to a task each."""
    seeds: dict[tuple[int, int], list[ReportedRun]] = {}
    before: Counter[tuple[int, tuple[str, ...]]] = Counter()
    for run in group.runs:
        # A seed's second run on the same tasks is another sample, like another seed's.
        seeds.setdefault((run.seed, before[run.seed, run.tasks]), []).append(run)
        before[run.seed, run.tasks] += 1
    return list(seeds.values())


def half_width(values: Float64[np.ndarray, " S"]) -> float:
    """Return half the width of a mean's interval; NaN where there are too few seeds."""
    return float(student_interval(values))


def curve_of(group: int, seeds: Sequence[Points], points: int) -> Curve | None:
    """Join seeds on a common grid of at most `points` agent steps; None without a value."""
    seeds = [_at_most(seed, points) for seed in seeds if len(seed[0])]
    if not seeds:
        return None
    first, last = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    grid = np.unique(np.concatenate([x for x, _ in seeds]))
    grid = grid[(grid >= first) & (grid <= last)]
    if len(grid) > points:
        grid = np.linspace(first, last, points)
    values = np.stack([np.interp(grid, x, y) for x, y in seeds])
    middle, around = values.mean(axis=0), student_interval(values)
    return Curve(group, grid, middle, middle - around, middle + around, seeds)


def of_groups(
    groups: Sequence[Group], read: Callable[[ReportedRun], Points | None], points: int
) -> list[Curve]:
    """Return a curve for every group in which `read` finds something."""
    curves = []
    for group in groups:
        found = [seed for seed in map(read, group.runs) if seed is not None]
        curve = curve_of(group.index, found, points)
        if curve is not None:
            curves.append(curve)
    return curves


def metric(name: str) -> Callable[[ReportedRun], Points | None]:
    """Return what reads a metric of a run, None where it has none."""

    def read(run: ReportedRun) -> Points | None:
        series = run.metrics.series.get(name)
        return series.points() if series is not None and len(series) else None

    return read


def mean_over(run: ReportedRun, names: Sequence[str]) -> Points | None:
    """Return the mean of several metrics, from where all of them have begun."""
    found = [points for points in (metric(name)(run) for name in names) if points is not None]
    return mean_of(found) if len(found) == len(names) else None


def mean_of(found: Sequence[Points]) -> Points | None:
    """Return the mean of several series, from where all have begun to where the first ends."""
    if not found:
        return None
    first, last = max(x[0] for x, _ in found), min(x[-1] for x, _ in found)
    grid = np.unique(np.concatenate([x for x, _ in found]))
    grid = grid[(grid >= first) & (grid <= last)]
    if not len(grid):
        return None
    return grid, np.mean([np.interp(grid, x, y) for x, y in found], axis=0)


def _at_most(points: Points, count: int) -> Points:
    """Thin a seed to means of neighbours; its last value stays as it is."""
    x, y = points
    if len(x) <= count:
        return points
    edges = np.linspace(0, len(x) - 1, count).astype(int)
    lengths = np.diff(edges)
    thinned = [np.add.reduceat(v[:-1], edges[:-1]) / lengths for v in (x, y)]
    return np.append(thinned[0], x[-1]), np.append(thinned[1], y[-1])
