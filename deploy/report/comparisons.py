"""Puts groups beside each other: tables per task, normalised scores, differences of protocol.

Axes: S runs, M tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from deploy import schema
from deploy.report.curves import Points, metric
from deploy.report.evaluations import Evaluation
from deploy.report.runs import Group, ReportedRun
from repertory.errors import BadInput
from repertory.metrics import names
from repertory.scores.normalise import human_ranges, normalised

_ACTIONS = "environment.full_action_space"

Judge = Callable[[Evaluation], float | None]
"""What one evaluation is worth on a scale; None where the scale says nothing of it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Scores of several groups on the same tasks, where 0 and 1 mean the same on all of them."""

    name: str
    meaning: str
    tasks: Sequence[str]
    scores: Mapping[int, Float64[np.ndarray, "S M"]]
    """By the index of the group."""
    ranges: Mapping[str, tuple[float, float]] | None
    """Returns that count as 0 and 1, by task; None where success is the score."""

    def over_time(self, group: Group, task: str, policy: str) -> list[Points]:
        """Return the scores of a task at each evaluation, for every run that has some."""
        measure = names.SUCCESS if self.ranges is None else names.RETURN
        zero, unit = (0.0, 1.0) if self.ranges is None else self.ranges[task]
        read = metric(f"eval/{policy}/task/{task}/{measure}")
        found = [points for points in map(read, group.runs) if points is not None]
        return [(steps, (values - zero) / (unit - zero)) for steps, values in found]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that runs which are read together do not agree in."""

    name: str
    values: Sequence[tuple[str, Sequence[str]]]
    """Each value, and which groups have it."""


def main_policy(runs: Sequence[ReportedRun]) -> str:
    """Return the policy that tables and scores are about: greedy wherever it was played."""
    played = [one.policy for run in runs for one in run.evaluations if one.policy != "random"]
    return "greedy" if "greedy" in played or not played else played[0]


def values_of(group: Group, task: str, policy: str, judge: Judge) -> list[float]:
    """Return a value per run that played the task under the policy."""
    found = []
    for run in group.runs:
        for one in run.evaluations:
            value = judge(one) if (one.task, one.policy) == (task, policy) else None
            if value is not None:
                found.append(value)
    return found


def scales(groups: Sequence[Group], references: Sequence[ReportedRun], policy: str) -> list[Scale]:
    """Return the scales that the evaluations allow for, each over the tasks groups share."""
    random = _mean_returns([r for g in groups for r in g.runs] + list(references), "random")
    agent = _mean_returns(references, policy)
    own = {t: (random[t], agent[t]) for t in agent if t in random and random[t] != agent[t]}
    human = {task: (zero, one) for task, (zero, one) in human_ranges().items()}
    found = []
    for name, meaning, ranges in (
        ("success", "share of evaluation episodes that succeeded", None),
        ("human-normalised", "0 is random play, 1 a human (Wang et al. 2016)", human),
        ("reference-normalised", "0 is random play, 1 the reference runs", own),
    ):
        judge = _success if ranges is None else _by(ranges)
        for tasks, members in _shared(groups, policy, judge):
            matrices = {}
            for group in members:
                columns = [values_of(group, task, policy, judge) for task in tasks]
                count = min(map(len, columns))
                matrices[group.index] = np.array([c[:count] for c in columns], np.float64).T
            found.append(Scale(name, meaning, tasks, matrices, ranges))
    return found


def differences(groups: Sequence[Group]) -> tuple[list[Difference], list[Difference]]:
    """Return what differs in the protocol of the runs: what changes tasks, then versions."""
    labelled = [(group.label, run) for group in groups for run in group.runs]
    serious = _differing([(label, _protocol(run)) for label, run in labelled])
    versions = [
        (label, {**run.protocol.get("versions", {}), "commit": run.protocol.get("commit")})
        for label, run in labelled
    ]
    return serious, _differing(versions)


def _protocol(run: ReportedRun) -> dict[str, Any]:
    environment = schema.flatten({"environment": run.protocol.get("environment", {})})
    if environment.get("environment.suite") == "atari":
        # `auto` and what it stands for are one protocol: fine-tuning spells it out.
        environment[_ACTIONS] = _has_full_actions(run.tasks, environment.get(_ACTIONS, "auto"))
    evaluation = {
        path: value
        for path, value in run.settings.items()
        if path in ("evaluation.episodes", "evaluation.seed", "evaluation.max_steps")
    }
    return {**environment, **evaluation, "tasks": list(run.tasks), "held out": list(run.held_out)}


def _has_full_actions(tasks: Sequence[str], setting: bool | str) -> bool | str:
    """Return whether agents of these tasks had all 18 actions; the setting, where none can tell."""
    from envs.atari import catalog

    try:
        games = [catalog.parse(task).game for task in tasks]
        return catalog.action_set(games, setting) == catalog.FULL_ACTIONS
    except BadInput:
        # A game that the emulator installed here does not have.
        return setting


def _differing(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Difference]:
    found = []
    for name in dict.fromkeys(name for _, row in rows for name in row):
        holders: dict[str, list[str]] = {}
        for label, row in rows:
            value = row.get(name, "not set")
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            labels = holders.setdefault(text or "none", [])
            if label not in labels:
                labels.append(label)
        if len(holders) > 1:
            found.append(Difference(name, list(holders.items())))
    return found


def _success(one: Evaluation) -> float | None:
    return one.success


def _by(ranges: Mapping[str, tuple[float, float]]) -> Judge:
    def judge(one: Evaluation) -> float | None:
        if one.task not in ranges:
            return None
        zero, unit = ranges[one.task]
        scores = normalised(np.array([[one.mean]]), np.array([zero]), np.array([unit]))
        return float(scores[0, 0])

    return judge


def _mean_returns(runs: Sequence[ReportedRun], policy: str) -> dict[str, float]:
    returns: dict[str, list[float]] = {}
    for run in runs:
        for one in run.evaluations:
            if one.policy == policy:
                returns.setdefault(one.task, []).append(one.mean)
    return {task: float(np.mean(values)) for task, values in returns.items()}


def _shared(
    groups: Sequence[Group], policy: str, judge: Judge
) -> list[tuple[list[str], list[Group]]]:
    """Return sets of groups with the tasks that all of a set have values for."""
    sets: list[tuple[list[str], list[Group]]] = []
    for group in groups:
        named = dict.fromkeys(one.task for run in group.runs for one in run.evaluations)
        counts = {task: len(values_of(group, task, policy, judge)) for task in named}
        # A task that only some runs have played would leave those few runs alone to be scored.
        most = max(counts.values(), default=0)
        tasks = [task for task, count in counts.items() if count == most > 0]
        for place, (shared, members) in enumerate(sets):
            both = [task for task in shared if task in tasks]
            if both:
                sets[place] = (both, [*members, group])
                break
        else:
            if tasks:
                sets.append((tasks, [group]))
    return sets
