"""Draws scores: performance profiles, and interquartile means over the course of training.

Axes: S runs, M tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploy.report.charts import LARGE, chart
from deploy.report.curves import Curve, Points
from deploy.report.figures import Figure, figure
from deploy.report.runs import Group
from deploy.report.scales import Scale
from repertory.scores.aggregates import (
    RUNS_OF_INTERVAL,
    interquartile_mean,
    interval,
    performance_profile,
    profile_band,
    resampled,
)

_TIMES, _RESAMPLES = 20, 400
"""Of an interquartile mean over training: points, and resamples for the interval of each."""


def profile(scale: Scale, generator: np.random.Generator) -> Figure:
    """Return the performance profile of every group on a scale (Agarwal et al. 2021, figure 7)."""
    everything = np.concatenate([scores.ravel() for scores in scale.scores.values()])
    top = max(1.0, min(float(everything.max()), 8.0))
    thresholds = np.linspace(min(0.0, float(everything.min())), top, 101)
    curves = []
    for group, scores in scale.scores.items():
        shares = performance_profile(scores, thresholds)
        low = high = np.full(len(thresholds), np.nan)
        if len(scores) >= RUNS_OF_INTERVAL:
            low, high = profile_band(scores, thresholds, generator)
        curves.append(Curve(group, thresholds, shares, low, high, [(thresholds, shares)]))
    label = f"share of runs and tasks above a {scale.measure.name} score"
    picture = chart(curves, LARGE, label, y_range=(0.0, 1.02), x_end=top, percent=True)
    return Figure("Performance profile", label, label, picture, [])


def interquartile_means(
    scale: Scale, groups: Sequence[Group], policy: str, generator: np.random.Generator
) -> Figure | None:
    """Return the interquartile mean of scores over the course of training, by evaluations."""
    curves = []
    for group in groups:
        if group.index in scale.scores:
            found = [scale.over_time(group, task, policy) for task in scale.tasks]
            curve = _interquartile_mean(group.index, found, generator)
            if curve is not None:
                curves.append(curve)
    if not curves:
        return None
    name, note = "Interquartile mean", f"{scale.measure.name} score, {policy} evaluation"
    zero_shot = {curve.group in scale.unseen for curve in curves}
    if zero_shot == {True, False}:
        note += (
            "; zero-shot curves are over the steps of pre-training, the others over those of "
            "fine-tuning or of training from scratch"
        )
    return figure(name, name, note, curves, LARGE)


def _interquartile_mean(
    group: int, tasks: Sequence[Sequence[Points]], generator: np.random.Generator
) -> Curve | None:
    """Join tasks and seeds; None where some task has fewer than two evaluations in common."""
    count = min(map(len, tasks), default=0)
    everything = [points for seeds in tasks for points in seeds[:count]]
    if not everything:
        return None
    first, last = max(x[0] for x, _ in everything), min(x[-1] for x, _ in everything)
    grid = np.unique(np.concatenate([x for x, _ in everything]))
    grid = grid[(grid >= first) & (grid <= last)]
    if len(grid) < 2:
        return None
    if len(grid) > _TIMES:
        grid = np.linspace(first, last, _TIMES)
    scores = np.array([[np.interp(grid, *p) for p in seeds[:count]] for seeds in tasks])
    middles, lows, highs = [], [], []
    for at_once in scores.transpose(2, 1, 0):
        middles.append(float(interquartile_mean(at_once)))
        drawn = interquartile_mean(resampled(at_once, generator, _RESAMPLES))
        low, high = interval(drawn) if count >= RUNS_OF_INTERVAL else (np.nan, np.nan)
        lows.append(float(low))
        highs.append(float(high))
    middle = np.array(middles)
    return Curve(group, grid, middle, np.array(lows), np.array(highs), [(grid, middle)])
