"""Tables of scores: per task, aggregates over tasks, and which group beats which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from deploy.report.comparisons import values_of
from deploy.report.numbers import MISSING, plain
from deploy.report.runs import Group
from deploy.report.scales import Measure, Scale
from deploy.report.tables import Cell, Table, as_text
from deploy.report.task_names import natural
from repertory.scores.aggregates import (
    RUNS_OF_INTERVAL,
    RUNS_OF_VERDICT,
    STATISTICS,
    Estimate,
    estimate,
    improvement,
)

_LISTED = 4
"""So many groups are compared in a list of all pairs with their intervals, more in a square."""
_NARROW = (
    "With few seeds these intervals are too narrow, and narrower still where one seed learns "
    "several tasks, which are resampled apart as if they were independent."
)


def per_task(measure: Measure, groups: Sequence[Group], policy: str) -> Table | None:
    """Return normalised scores, a row per task; None without any, and for success, which the
    tables of evaluations show.
    """
    if measure.ranges is None:
        return None
    tasks = sorted(
        {
            one.task
            for group in groups
            for run in group.runs
            for one in run.evaluations
            if one.task in measure.ranges and one.policy == policy
        },
        key=natural,
    )
    columns: list[tuple[Group, bool, list[list[float]]]] = []
    for group in groups:
        for trained in (True, False):
            judge = measure.judge(trained=trained)
            values = [values_of(group, task, policy, judge) for task in tasks]
            if any(values):
                columns.append((group, trained, values))
    if not columns:
        return None
    rows = [
        (task, [Cell(as_text(values[place])) for _, _, values in columns])
        for place, task in enumerate(tasks)
    ]
    return Table(
        f"{measure.name[0].upper()}{measure.name[1:]} scores of each task ({measure.meaning}; "
        f"{policy} evaluation), mean over seeds ± half of the 95 % interval over them.",
        ["task", *(_named(group, unseen=not trained) for group, trained, _ in columns)],
        rows,
        groups=[-1, *(group.index for group, _, _ in columns)],
    )


def aggregates(scale: Scale, groups: Sequence[Group], generator: np.random.Generator) -> Table:
    """Return the aggregates of every group on a scale."""
    rows = []
    for index, scores in scale.scores.items():
        estimates = [estimate(scores, statistic, generator) for statistic in STATISTICS.values()]
        cells = [Cell(str(len(scores))), *(Cell(_estimate(one)) for one in estimates)]
        rows.append((_label(scale, groups, index), cells))
    name = scale.measure.name
    return Table(
        f"{name[0].upper()}{name[1:]} scores ({scale.measure.meaning}) over "
        f"{len(scale.tasks)} task{'s' if len(scale.tasks) > 1 else ''}. In brackets: 95 % "
        "stratified bootstrap intervals, runs resampled within each task, from "
        f"{RUNS_OF_INTERVAL} seeds on. {_NARROW}{_of_the_ends(scale)} Of the optimality gap, less "
        "is better.",
        ["", "seeds", *STATISTICS],
        rows,
        row_groups=list(scale.scores),
    )


def improvements(
    scale: Scale, groups: Sequence[Group], generator: np.random.Generator
) -> Table | None:
    """Return how likely a run of one group is to beat one of another, for every pair."""
    found = {
        (first, second): improvement(scale.scores[first], scale.scores[second], generator)
        for first, second in combinations(scale.scores, 2)
    }
    if not found:
        return None
    if len(scale.scores) > _LISTED:
        return _square(scale, groups, found)
    rows = [
        (
            f"{_label(scale, groups, first)} beats {_label(scale, groups, second)}",
            [Cell(_estimate(one))],
        )
        for (first, second), one in found.items()
    ]
    return Table(
        "Probability that a run of the first beats one of the second on a task, mean over tasks "
        "(Mann-Whitney, ties count half); 0.5 is no difference. In brackets: 95 % stratified "
        f"bootstrap intervals, from {RUNS_OF_INTERVAL} seeds a side on. {_NARROW}",
        ["", "probability"],
        rows,
    )


def _square(scale: Scale, groups: Sequence[Group], found: dict[tuple[int, int], Estimate]) -> Table:
    """Return the probabilities of all pairs, rows against columns."""
    both = dict(found)
    for (first, second), one in found.items():
        both[second, first] = Estimate(1.0 - one.value, 1.0 - one.high, 1.0 - one.low)

    def is_sure(row: int, column: int) -> bool:
        one, fewest = both[row, column], min(len(scale.scores[side]) for side in (row, column))
        return bool(fewest >= RUNS_OF_VERDICT and (one.low > 0.5 or one.high < 0.5))

    numbers = {index: str(number) for number, index in enumerate(scale.scores, 1)}
    rows = [
        (
            f"{numbers[row]} {_label(scale, groups, row)}",
            [
                Cell(plain(both[row, column].value, 2), is_sure(row, column))
                if row != column
                else Cell(MISSING)
                for column in scale.scores
            ],
        )
        for row in scale.scores
    ]
    return Table(
        "Probability that a run of the row beats one of the column on a task, mean over tasks "
        "(Mann-Whitney, ties count half); 0.5 is no difference. Bold where the 95 % stratified "
        f"bootstrap interval leaves 0.5 out, from {RUNS_OF_VERDICT} seeds a side on; the intervals "
        f"themselves are left out here. {_NARROW}",
        ["", *numbers.values()],
        rows,
        groups=[-1, *scale.scores],
        row_groups=list(scale.scores),
    )


def _of_the_ends(scale: Scale) -> str:
    """Say that what counts as 0 and 1 is taken for certain, where runs were played for it."""
    if scale.measure.ranges is None:
        return ""
    return " What counts as 0 and 1 is taken as certain: its own spread is in no interval."


def _estimate(one: Estimate) -> str:
    text = plain(one.value, 2)
    return f"{text} [{plain(one.low, 2)}, {plain(one.high, 2)}]" if np.isfinite(one.low) else text


def _label(scale: Scale, groups: Sequence[Group], index: int) -> str:
    group = next(group for group in groups if group.index == index)
    return _named(group, unseen=index in scale.unseen)


def _named(group: Group, *, unseen: bool) -> str:
    return f"{group.label}, zero-shot" if unseen else group.label
