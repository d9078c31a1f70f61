"""Which curves a report shows: per task, over all tasks, and of the machinery's health."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from deploy.report.charts import LARGE, MEDIUM, SPARK, Size, chart
from deploy.report.comparisons import Scale
from deploy.report.curves import (
    Curve,
    Points,
    by_seed,
    curve_of,
    mean_of,
    mean_over,
    metric,
    of_groups,
)
from deploy.report.numbers import compact, with_interval
from deploy.report.runs import Group, ReportedRun
from deploy.report.series import QUEUE_FILL, REPLAY_FILL
from deploy.report.task_names import short_names
from repertory.metrics import names
from repertory.scores.aggregates import (
    interquartile_mean,
    interval,
    performance_profile,
    profile_band,
    resampled,
)

MANY_TASKS = 12
"""More tasks than these are drawn small, without axes of their own."""
FEW_TASKS = 2
"""So few tasks are drawn large."""
_NAMES = {SPARK: "spark", MEDIUM: "medium", LARGE: "large"}
_TIMES, _RESAMPLES = 20, 400
"""Of an interquartile mean over training: points, and resamples for the interval of each."""
HEALTH = (
    ("Throughput", "agent steps per second", names.STEPS_PER_S),
    ("Updates", "per second", "learner/updates_per_s"),
    ("Lag", "versions between acting and learning, mean", "lag/mean"),
    ("Learner waits", "share of its time", "learner/waiting"),
    ("Queues", "rows over target, mean over tasks", QUEUE_FILL),
    ("Replay", "share of the rings in use, mean over tasks", REPLAY_FILL),
    ("Replayed", "steps per step inserted", "replay/samples_per_insert"),
    ("Dropped as stale", "rows so far", "replay/dropped_stale"),
    ("Dropped by full queues", "rows so far", "replay/dropped_overflow"),
    ("Workers", "alive", names.ACTORS_ALIVE),
    ("Workers replaced", "so far", names.ACTOR_RESTARTS),
    ("Updates skipped", "not finite, so far", "learner/nonfinite_updates"),
    ("Gradient cosine", "mean over pairs of tasks", "learner/gradient_cosine_mean"),
)
"""(title, unit, metric); what a run has not is left out."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A group's last value in a figure."""

    group: int
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture with its caption and the numbers that it ends in."""

    name: str
    full_name: str
    note: str
    picture: Markup
    readings: Sequence[Reading]


@dataclass(frozen=True, slots=True)
class Panel:
    """Figures of one kind, one for each task."""

    title: str
    size: str
    figures: Sequence[Figure]
    overall: Figure | None
    """Mean over the tasks."""


def panels(groups: Sequence[Group], tasks: Sequence[str], policy: str) -> list[Panel]:
    """Return learning curves per task: success before return, evaluation before training."""
    found = []
    for title, prefix, measure in (
        (f"Success, {policy} evaluation", f"eval/{policy}/task/", names.SUCCESS),
        (f"Return, {policy} evaluation", f"eval/{policy}/task/", names.RETURN),
        ("Success, training episodes", names.TASK, names.SUCCESS),
        ("Return, training episodes", names.TASK, names.RETURN),
    ):
        panel = _panel(title, prefix, measure, groups, tasks)
        if panel is not None:
            found.append(panel)
    return found


def health(groups: Sequence[Group]) -> list[Figure]:
    """Return what the machinery did over the course of the runs."""
    found = []
    for title, unit, name in HEALTH:
        curves = of_groups(groups, metric(name), MEDIUM.points)
        if curves:
            # Rates are noisy: their intervals would hide their course.
            nothing = [np.full_like(c.middle, np.nan) for c in curves]
            bare = [replace(c, low=n, high=n) for c, n in zip(curves, nothing, strict=True)]
            found.append(_figure(title, title, unit, bare, MEDIUM))
    return found


def profile(scale: Scale, generator: np.random.Generator) -> Figure:
    """Return the performance profile of every group on a scale (Agarwal et al. 2021, figure 7)."""
    everything = np.concatenate([scores.ravel() for scores in scale.scores.values()])
    top = max(1.0, min(float(everything.max()), 8.0))
    thresholds = np.linspace(min(0.0, float(everything.min())), top, 101)
    curves = []
    for group, scores in scale.scores.items():
        shares = performance_profile(scores, thresholds)
        low = high = np.full(len(thresholds), np.nan)
        if len(scores) > 1:
            low, high = profile_band(scores, thresholds, generator)
        curves.append(Curve(group, thresholds, shares, low, high, [(thresholds, shares)]))
    label = f"share of runs and tasks above a {scale.name} score"
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
    name = "Interquartile mean"
    return _figure(name, name, f"{scale.name} score, {policy} evaluation", curves, LARGE)


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
        low, high = interval(drawn) if count > 1 else (np.nan, np.nan)
        lows.append(float(low))
        highs.append(float(high))
    middle = np.array(middles)
    return Curve(group, grid, middle, np.array(lows), np.array(highs), [(grid, middle)])


def videos(runs: Sequence[ReportedRun], beside: Path) -> list[tuple[str, list[tuple[str, Path]]]]:
    """Return each run's videos as (name, path from the report's own directory)."""
    found = []
    for run in runs:
        files = sorted((run.path / "videos").glob("*.mp4")) + sorted(
            (run.path / "videos").glob("*.gif")
        )
        links = [(file.name, Path(os.path.relpath(file, beside))) for file in files]
        if links:
            found.append((run.name, links))
    return found


def _panel(
    title: str, prefix: str, measure: str, groups: Sequence[Group], tasks: Sequence[str]
) -> Panel | None:
    percent = measure == names.SUCCESS
    size = SPARK if len(tasks) > MANY_TASKS else MEDIUM if len(tasks) > FEW_TASKS else LARGE
    curves: dict[str, list[Curve]] = {}
    for task in tasks:
        name = f"{prefix}{task}/{measure}"
        of_task = of_groups(groups, metric(name), size.points)
        if of_task:
            curves[task] = of_task
    evaluated = prefix != names.TASK
    longest = max((len(x) for of in curves.values() for c in of for x, _ in c.seeds), default=0)
    if longest < (2 if evaluated else 1):
        return None
    # One reach for all, so that tasks can be compared along the axis.
    end = max(float(x[-1]) for of in curves.values() for c in of for x, _ in c.seeds)
    short = short_names(list(curves))
    figures = [
        _figure(short[task], task, "", of_task, size, end=end, percent=percent)
        for task, of_task in curves.items()
    ]
    overall = []
    for group in groups:
        seeds: list[Points] = []
        for runs in by_seed(group):
            of_runs = (
                mean_over(run, [f"{prefix}{task}/{measure}" for task in run.tasks]) for run in runs
            )
            mean = mean_of([points for points in of_runs if points is not None])
            if mean is not None:
                seeds.append(mean)
        curve = curve_of(group.index, seeds, LARGE.points)
        if curve is not None:
            overall.append(curve)
    whole = None
    if overall and len(tasks) > 1:
        name = f"Mean over tasks: {title[0].lower()}{title[1:]}"
        whole = _figure(name, name, "", overall, LARGE, end=end, percent=percent)
    return Panel(title, _NAMES[size], figures, whole)


def _figure(
    name: str,
    full_name: str,
    note: str,
    curves: Sequence[Curve],
    size: Size,
    *,
    end: float | None = None,
    percent: bool = False,
) -> Figure:
    label = f"{full_name}{', ' + note if note else ''}: over agent steps"
    y_range = (-0.03, 1.03) if percent else None
    return Figure(
        name,
        full_name,
        note,
        chart(curves, size, label, y_range=y_range, x_end=end, percent=percent),
        [
            Reading(curve.group, _last(curve, percent=percent, short=size is SPARK))
            for curve in curves
        ],
    )


def _last(curve: Curve, *, percent: bool, short: bool) -> str:
    value, half_width = curve.last
    if short:
        return f"{100 * value:.0f} %" if percent else compact(value)
    return with_interval(value, half_width, percent=percent)
