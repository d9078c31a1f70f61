"""Scores of groups on one scale for all tasks: success, a human's, or those of a reference.

Axes: S runs, M tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from deploy.report.comparisons import Judge, values_of
from deploy.report.curves import Points, metric
from deploy.report.evaluations import Evaluation
from deploy.report.runs import Group, ReportedRun
from repertory.metrics import names
from repertory.scores.normalise import human_ranges, normalised

_NAMED = 3
"""Tasks that a remark names."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What 0 and 1 mean on a scale."""

    name: str
    meaning: str
    ranges: Mapping[str, tuple[float, float]] | None
    """Returns that count as 0 and 1, by task; None where success is the score."""

    def judge(self, *, trained: bool) -> Judge:
        """Return what scores evaluations of tasks that were trained on, or of those that were not.

        An agent's scores on tasks it never trained on have no part in what it scores on its own.
        """

        def score(one: Evaluation) -> float | None:
            if one.history != ("trained" if trained else "never"):
                return None
            if self.ranges is None:
                return one.success
            if one.task not in self.ranges:
                return None
            zero, unit = self.ranges[one.task]
            scores = normalised(np.array([[one.mean]]), np.array([zero]), np.array([unit]))
            return float(scores[0, 0])

        return score


@dataclass(frozen=True, slots=True)
class Scale:
    """Scores of several groups on the same tasks, where 0 and 1 mean the same on all of them."""

    measure: Measure
    tasks: Sequence[str]
    scores: Mapping[int, Float64[np.ndarray, "S M"]]
    """By the index of the group."""
    unseen: frozenset[int]
    """Groups that never trained on these tasks: their scores are zero-shot."""

    def over_time(self, group: Group, task: str, policy: str) -> list[Points]:
        """Return the scores of a task at each evaluation, for every run that has some."""
        ranges = self.measure.ranges
        measure = names.SUCCESS if ranges is None else names.RETURN
        zero, unit = (0.0, 1.0) if ranges is None else ranges[task]
        read = metric(f"eval/{policy}/{names.TASK}{task}/{measure}")
        trained = group.index not in self.unseen
        runs = [run for run in group.runs if run.counts(task, trained=trained)]
        found = [points for points in map(read, runs) if points is not None]
        return [(steps, (values - zero) / (unit - zero)) for steps, values in found]


def measures(
    groups: Sequence[Group], references: Sequence[ReportedRun], policy: str
) -> list[Measure]:
    """Return what evaluations may be scored by; without references, also by runs from scratch."""
    human = {task: (zero, one) for task, (zero, one) in human_ranges().items()}
    found = [
        Measure("success", "share of evaluation episodes that succeeded", None),
        Measure("human-normalised", "0 is random play, 1 a human (Wang et al. 2016)", human),
    ]
    name, told, runs = _reference(groups, references)
    own = _own_ranges(groups, runs, policy)
    return [*found, Measure(f"{name}-normalised", f"0 is random play, 1 {told}", own)]


def scales(groups: Sequence[Group], measure: Measure, policy: str) -> list[Scale]:
    """Return the scales that the evaluations allow for, each over the tasks its groups share."""
    found = []
    for tasks, members in _shared(groups, policy, measure):
        matrices = {}
        for group, trained in members:
            judge = measure.judge(trained=trained)
            columns = [values_of(group, task, policy, judge) for task in tasks]
            count = min(map(len, columns))
            matrices[group.index] = np.array([c[:count] for c in columns], np.float64).T
        unseen = frozenset(group.index for group, trained in members if not trained)
        found.append(Scale(measure, tasks, matrices, unseen))
    return found


def remarks(groups: Sequence[Group], references: Sequence[ReportedRun], policy: str) -> list[str]:
    """Return what scores leave out, a sentence each: for want of a scale, or of evaluations."""
    return [
        *_of_the_scale(groups, references, policy),
        *_of_seeds(groups, references, policy),
    ]


def _of_the_scale(
    groups: Sequence[Group], references: Sequence[ReportedRun], policy: str
) -> list[str]:
    """Return what is missing for the reference runs, or those from scratch, to be a scale."""
    name, told, runs = _reference(groups, references)
    if not runs:
        return []
    random, agent = _zeros_and_ones(groups, runs, policy)
    if not agent:
        return [
            f"{told[0].upper()}{told[1:]} have no {policy} evaluation, so nothing is normalised by "
            f"them: repertory evaluate RUN --policy {policy} random."
        ]
    found = []
    unknown = [task for task in agent if task not in random]
    if unknown:
        found.append(
            f"Not {name}-normalised, because no run was evaluated with random play there: "
            f"{_listed(unknown)}. To have it: repertory evaluate RUN --policy {policy} random."
        )
    below = [task for task in agent if task in random and agent[task] <= random[task]]
    if below:
        found.append(
            f"Not {name}-normalised, because there {told} return no more than random play: "
            f"{_listed(below)}. Between them no score could tell better from worse."
        )
    played = {one.task for g in groups for run in g.runs for one in run.evaluations}
    if not played & set(agent):
        found.append(f"No run of the report was evaluated on a task of {told}: {_listed(agent)}.")
    return found


def _of_seeds(groups: Sequence[Group], references: Sequence[ReportedRun], policy: str) -> list[str]:
    """Return which tasks are in no score of a group, because some of its seeds lack them."""
    found = []
    for measure in measures(groups, references, policy):
        for group in groups:
            for trained in (True, False):
                counts = _counts(group, policy, measure.judge(trained=trained))
                most = max(counts.values(), default=0)
                fewer = [task for task, count in counts.items() if 0 < count < most]
                if fewer:
                    found.append(
                        f"Scores of {group.label} leave out what fewer of its seeds were evaluated "
                        f"on ({policy}) than its other tasks: {_listed(fewer)}."
                    )
    return list(dict.fromkeys(found))


def _reference(
    groups: Sequence[Group], references: Sequence[ReportedRun]
) -> tuple[str, str, Sequence[ReportedRun]]:
    """Return what counts as 1: a word, what it is called, and its runs; without any, scratch's."""
    if references:
        return "reference", "the reference runs", references
    scratch = [run for group in groups for run in group.runs if run.from_scratch]
    return "scratch", "the runs from scratch", scratch


def _listed(tasks: Sequence[str] | Mapping[str, float]) -> str:
    named = list(tasks)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def _zeros_and_ones(
    groups: Sequence[Group], references: Sequence[ReportedRun], policy: str
) -> tuple[dict[str, float], dict[str, float]]:
    everyone = [run for group in groups for run in group.runs]
    return _mean_returns([*everyone, *references], "random"), _mean_returns(references, policy)


def _own_ranges(
    groups: Sequence[Group], references: Sequence[ReportedRun], policy: str
) -> dict[str, tuple[float, float]]:
    random, agent = _zeros_and_ones(groups, references, policy)
    # An agent below random play would turn the scale round, and call the worse group the better.
    return {t: (random[t], agent[t]) for t in agent if t in random and random[t] < agent[t]}


def _mean_returns(runs: Sequence[ReportedRun], policy: str) -> dict[str, float]:
    """Return the mean return of every task; of those that trained on it where some did."""
    returns: dict[str, dict[bool, list[float]]] = {}
    for run in runs:
        for one in run.evaluations:
            if one.policy == policy:
                by_training = returns.setdefault(one.task, {})
                # Random play is no better for having trained.
                by_training.setdefault(one.trained_on or policy == "random", []).append(one.mean)
    return {task: float(np.mean(v[max(v)])) for task, v in returns.items()}


def _counts(group: Group, policy: str, judge: Judge) -> dict[str, int]:
    """Return how many of a group's runs have a value, by task."""
    named = dict.fromkeys(one.task for run in group.runs for one in run.evaluations)
    return {task: len(values_of(group, task, policy, judge)) for task in named}


def _shared(
    groups: Sequence[Group], policy: str, measure: Measure
) -> list[tuple[list[str], list[tuple[Group, bool]]]]:
    """Return sets of groups, and whether each was trained on the tasks that all of a set have."""
    sets: list[tuple[list[str], list[tuple[Group, bool]]]] = []
    for group in groups:
        for trained in (True, False):
            counts = _counts(group, policy, measure.judge(trained=trained))
            # A task that only some runs have played would leave those few alone to be scored.
            most = max(counts.values(), default=0)
            tasks = [task for task, count in counts.items() if count == most > 0]
            for place, (shared, members) in enumerate(sets):
                both = [task for task in shared if task in tasks]
                if both:
                    sets[place] = (both, [*members, (group, trained)])
                    break
            else:
                if tasks:
                    sets.append((tasks, [(group, trained)]))
    return sets
