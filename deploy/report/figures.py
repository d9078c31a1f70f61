"""Which curves a report shows: per task and over all tasks, trained on and zero-shot."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from deploy.report.charts import LARGE, MEDIUM, SPARK, Level, Size, chart
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
from deploy.report.levels import ZeroShotLevels
from deploy.report.numbers import compact, percentage, with_interval
from deploy.report.runs import Group, ReportedRun
from deploy.report.task_names import natural, short_names
from repertory.metrics import names

MANY_TASKS = 12
"""More tasks than these are drawn small, without axes of their own."""
FEW_TASKS = 2
"""So few tasks are drawn large."""
_NAMED = 4
"""So few tasks are named beside a mean over them."""
_IN_TRAINING = "sampled"
"""Policy that training episodes are played by."""
_NAMES = {SPARK: "spark", MEDIUM: "medium", LARGE: "large"}


@dataclass(frozen=True, slots=True)
class Reading:
    """A group's last value in a figure, or the level that it is compared with."""

    group: int
    text: str
    level: bool = False


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
    overall: Sequence[Figure]
    """Means over tasks, a picture for all groups that have the same ones."""


def panels(groups: Sequence[Group], tasks: Sequence[str], policy: str) -> list[Panel]:
    """Return learning curves per task: success before return, evaluation before training.

    Curves are of runs that train on the task. What a run fine-tuned to a task could do before is
    a level beside its curve, by evaluations of the policy that the curve is of.
    """
    found = []
    zero_shot = ZeroShotLevels(groups)
    for title, prefix, played, measure in (
        (f"Success, {policy} evaluation", _evaluated(policy), policy, names.SUCCESS),
        (f"Return, {policy} evaluation", _evaluated(policy), policy, names.RETURN),
        ("Success, training episodes", names.TASK, _IN_TRAINING, names.SUCCESS),
        ("Return, training episodes", names.TASK, _IN_TRAINING, names.RETURN),
    ):
        levels = {
            task: zero_shot.of(task, played, success=measure == names.SUCCESS) for task in tasks
        }
        curves = _Curves(title, prefix, measure, trained=True)
        panel = _panel(curves, groups, tasks, levels)
        if panel is not None:
            found.append(panel)
    return found


def zero_shot_panels(groups: Sequence[Group], policy: str) -> list[Panel]:
    """Return how evaluations of tasks that a run never trains on went over its training."""
    found = []
    for title, measure in (
        (f"Zero-shot success, {policy} evaluation", names.SUCCESS),
        (f"Zero-shot return, {policy} evaluation", names.RETURN),
    ):
        curves = _Curves(title, _evaluated(policy), measure, trained=False)
        unseen = {task for group in groups for run in group.runs for task in curves.unseen(run)}
        panel = _panel(curves, groups, sorted(unseen, key=natural), {})
        if panel is not None:
            found.append(panel)
    return found


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


def _evaluated(policy: str) -> str:
    return f"eval/{policy}/{names.TASK}"


@dataclass(frozen=True, slots=True)
class _Curves:
    """One measure of tasks that runs train on, or of tasks that they do not."""

    title: str
    prefix: str
    measure: str
    trained: bool

    def name(self, task: str) -> str:
        return f"{self.prefix}{task}/{self.measure}"

    def of(self, task: str) -> Callable[[ReportedRun], Points | None]:
        """Return what reads a task of a run, None where the run is not one this is about."""
        read = metric(self.name(task))
        return lambda run: read(run) if run.counts(task, trained=self.trained) else None

    def unseen(self, run: ReportedRun) -> list[str]:
        """Return the tasks that the run has values of and never trained on."""
        end = f"/{self.measure}"
        found = [
            name.removeprefix(self.prefix).removesuffix(end)
            for name in run.metrics.series
            if name.startswith(self.prefix) and name.endswith(end)
        ]
        return [task for task in found if run.has_never_trained_on(task)]

    def tasks(self, group: Group) -> tuple[str, ...]:
        """Return the tasks that a mean of the group is over."""
        if self.trained:
            return tuple(sorted(group.tasks, key=natural))
        return tuple(sorted({t for run in group.runs for t in self.unseen(run)}, key=natural))

    def mean(self, runs: Sequence[ReportedRun], tasks: Sequence[str]) -> Points | None:
        """Return the mean over tasks of one seed's runs; None unless together they have all."""
        played = [[task for task in tasks if r.counts(task, trained=self.trained)] for r in runs]
        if {task for of_run in played for task in of_run} != set(tasks):
            return None
        means = [
            mean_over(run, [self.name(task) for task in of_run])
            for run, of_run in zip(runs, played, strict=True)
            if of_run
        ]
        known = [points for points in means if points is not None]
        return mean_of(known) if len(known) == len(means) else None


def _panel(
    read: _Curves,
    groups: Sequence[Group],
    tasks: Sequence[str],
    levels: Mapping[str, Sequence[Level]],
) -> Panel | None:
    percent = read.measure == names.SUCCESS
    size = SPARK if len(tasks) > MANY_TASKS else MEDIUM if len(tasks) > FEW_TASKS else LARGE
    curves: dict[str, list[Curve]] = {}
    for task in tasks:
        of_task = of_groups(groups, read.of(task), size.points)
        if of_task:
            curves[task] = of_task
    evaluated = read.prefix != names.TASK
    longest = max((len(x) for of in curves.values() for c in of for x, _ in c.seeds), default=0)
    if longest < (2 if evaluated else 1):
        return None
    # One reach for all tasks of a group, so that they can be compared along the axis.
    reach: dict[int, float] = {}
    for curve in (curve for of_task in curves.values() for curve in of_task):
        ends = [float(x[-1]) for x, _ in curve.seeds]
        reach[curve.group] = max(*ends, reach.get(curve.group, 0.0))
    short = short_names(list(curves))
    figures = [
        figure(
            short[task],
            task,
            "",
            of_task,
            size,
            levels=levels.get(task, ()),
            end=max(reach[curve.group] for curve in of_task),
            percent=percent,
        )
        for task, of_task in curves.items()
    ]
    overall = _overall(read, groups, reach, percent=percent)
    return Panel(read.title, _NAMES[size], figures, overall)


def _overall(
    read: _Curves, groups: Sequence[Group], reach: Mapping[int, float], *, percent: bool
) -> list[Figure]:
    """Return means over tasks: groups of other tasks are not drawn into one picture."""
    together: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        together.setdefault(read.tasks(group), []).append(group)
    short = short_names(list(dict.fromkeys(task for tasks in together for task in tasks)))
    figures = []
    for tasks, members in together.items():
        curves = []
        for group in members:
            means = (read.mean(runs, tasks) for runs in by_seed(group))
            seeds = [points for points in means if points is not None]
            curve = curve_of(group.index, seeds, LARGE.points)
            if curve is not None:
                curves.append(curve)
        if curves and len(tasks) > 1:
            title = f"{read.title[0].lower()}{read.title[1:]}"
            named = ", ".join(short[task] for task in tasks)
            several = len(together) > 1 or not read.trained
            many = f"{len(tasks)} tasks" if several else "tasks"
            name = f"Mean over {many}: {title}"
            note = named if several and len(tasks) <= _NAMED else ""
            end = max(reach[curve.group] for curve in curves)
            figures.append(figure(name, name, note, curves, LARGE, end=end, percent=percent))
    return figures


def figure(
    name: str,
    full_name: str,
    note: str,
    curves: Sequence[Curve],
    size: Size,
    *,
    levels: Sequence[Level] = (),
    end: float | None = None,
    percent: bool = False,
) -> Figure:
    """Return a picture of curves over agent steps, with their last values and the levels."""
    label = f"{full_name}{', ' + note if note else ''}: over agent steps"
    short = size is SPARK
    readings = [
        Reading(curve.group, _last(curve, percent=percent, short=short)) for curve in curves
    ]
    if not short:
        readings += [
            Reading(
                level.group,
                f"{level.label} {with_interval(level.value, level.half_width, percent=percent)}",
                level=True,
            )
            for level in levels
        ]
    y_range = (-0.03, 1.03) if percent else None
    picture = chart(curves, size, label, levels=levels, y_range=y_range, x_end=end, percent=percent)
    return Figure(name, full_name, note, picture, readings)


def _last(curve: Curve, *, percent: bool, short: bool) -> str:
    value, half_width = curve.last
    if short:
        return percentage(value) if percent else compact(value)
    return with_interval(value, half_width, percent=percent)
