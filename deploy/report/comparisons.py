"""Puts groups beside each other: the values that can be compared, and differences of protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy import schema
from deploy.report.evaluations import Evaluation
from deploy.report.runs import Group, ReportedRun
from repertory.errors import BadInput

_ACTIONS = "environment.full_action_space"
_FEW = 3
"""Groups that are always named by those who differ."""
_NOT_COMPARED = object()
_NO_TASKS = {"tasks": _NOT_COMPARED, "held out": _NOT_COMPARED}

Judge = Callable[[Evaluation], float | None]
"""What one evaluation is worth on a scale; None where the scale says nothing of it."""


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


def differences(
    groups: Sequence[Group], references: Sequence[ReportedRun] = ()
) -> tuple[list[Difference], list[Difference]]:
    """Return what differs in the protocol of the runs: what changes tasks, then versions.

    References are compared too, but for their tasks, of which the scores take what they need.
    """
    labelled = [(group.label, run) for group in groups for run in group.runs]
    known = {run.path.resolve() for _, run in labelled}
    others = [
        (f"reference {run.name}", run) for run in references if run.path.resolve() not in known
    ]
    serious = _differing(
        [
            *((label, _protocol(run) | _tasks(run)) for label, run in labelled),
            *((label, _protocol(run) | _NO_TASKS) for label, run in others),
        ]
    )
    versions = [
        (label, {**run.protocol.get("versions", {}), "commit": run.protocol.get("commit")})
        for label, run in (*labelled, *others)
    ]
    return serious, _differing(versions)


def _protocol(run: ReportedRun) -> dict[str, Any]:
    environment = schema.flatten({"environment": run.protocol.get("environment", {})})
    if environment.get("environment.suite") == "atari":
        # `auto` and what it stands for are one protocol: fine-tuning spells it out.
        environment[_ACTIONS] = _has_full_actions(run.tasks, environment.get(_ACTIONS, "auto"))
    # What was played counts, not what the run was set to: `evaluate` may have played more.
    played = [one for one in run.evaluations if one.policy != "random"]
    episodes: set[Any] = {len(one.returns) for one in played}
    seeds: set[Any] = {one.seed for one in played if one.seed is not None}
    return {
        **environment,
        "evaluation.episodes": _joined(episodes or {run.settings.get("evaluation.episodes")}),
        "evaluation.seed": _joined(seeds or {run.settings.get("evaluation.seed")}),
        "evaluation.max_steps": run.settings.get("evaluation.max_steps"),
    }


def _tasks(run: ReportedRun) -> dict[str, Any]:
    # Fine-tuned runs hold nothing out: it is their parents' held-out tasks that they train on.
    held_out = _NOT_COMPARED if run.parent else list(run.held_out)
    return {"tasks": list(run.tasks), "held out": held_out}


def _joined(values: Iterable[Any]) -> str:
    return " and ".join(map(str, sorted(values)))


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
            if value is _NOT_COMPARED:
                continue
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            labels = holders.setdefault(text or "none", [])
            if label not in labels:
                labels.append(label)
        if len(holders) > 1:
            found.append(Difference(name, _compact(list(holders.items()))))
    return found


def _compact(values: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, Sequence[str]]]:
    """Say `all others` of the value that most groups have, if they are many and have no other."""
    most, labels = max(values, key=lambda one: len(one[1]))
    others = {label for value, of in values for label in of if value != most}
    if len(labels) <= _FEW or others & set(labels):
        return list(values)
    return [*((value, of) for value, of in values if value != most), (most, ["all others"])]
