"""Names groups of runs: short, and never two groups by one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deploy.report.numbers import compact
from deploy.report.task_names import short_names

_LONGEST = 24
"""Characters of a setting's value in a label."""
_TOLD = 3
"""Settings in a label, where fewer do not tell the groups apart."""
_TASKS, _HELD_OUT, _PARENT_TASKS = "tasks", "held_out", "initial.parent_tasks"
OF_PARENT = "parent."
"""Begins the path of a setting of the run that others were fine-tuned from."""
BUDGET_OF_PARENT = f"{OF_PARENT}total_steps"
STEPS_OF_PARENT = f"{OF_PARENT}steps"
"""No setting, but how many steps the weights of a parent were trained for."""


def labels_of(
    names: Sequence[str],
    settings: Sequence[Mapping[str, Any]],
    differing: Callable[[Sequence[int]], Sequence[str]],
    directories: Sequence[str],
    *,
    of_parents: bool,
) -> list[str]:
    """Return a label for each group, all of them different.

    Groups of one name are told apart by the settings they differ in, tasks by how many there are;
    where three settings are not enough, by the next that tells, then by a run's directory.

    Args:
        names: what groups are called before anything else is said of them.
        settings: of each group, by dotted path, with suites of tasks spelled out.
        differing: the paths in which some groups, by index, are not alike and that may be told.
        directories: the name of each group's first run.
        of_parents: whether some runs of the report were fine-tuned from others.
    """
    labels = list(names)
    for alike in _equal(labels):
        paths = differing(alike)
        for path in paths[:_TOLD]:
            words = _told(path, [settings[index] for index in alike], of_parents)
            for index, word in zip(alike, words, strict=True):
                labels[index] += f", {word}"
        if len(paths) > _TOLD:
            for index in alike:
                labels[index] += ", …"
    for alike in _equal(labels):
        _tell_apart(labels, alike, settings, differing(alike), of_parents)
    for alike in _equal(labels):
        for index in alike:
            labels[index] += f" ({directories[index]})"
    for alike in _equal(labels):
        for number, index in enumerate(alike, 1):
            labels[index] += f" #{number}"
    return labels


def _tell_apart(
    labels: list[str],
    alike: Sequence[int],
    settings: Sequence[Mapping[str, Any]],
    paths: Sequence[str],
    of_parents: bool,
) -> None:
    """Add settings to labels that are equal so far, each only where it tells some of them apart."""
    left = [list(alike)]
    for path in paths:
        for together in left:
            words = _told(path, [settings[index] for index in together], of_parents)
            for index, word in zip(together, words, strict=True):
                if len(set(words)) > 1:
                    labels[index] = f"{labels[index].removesuffix(', …')}, {word}"
        left = [
            [together[place] for place in places]
            for together in left
            for places in _equal([labels[index] for index in together])
        ]


def _equal(labels: Sequence[str]) -> list[list[int]]:
    """Return the indices of labels that are not the only ones of their kind."""
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        by_label.setdefault(label, []).append(index)
    return [indices for indices in by_label.values() if len(indices) > 1]


def _told(path: str, settings: Sequence[Mapping[str, Any]], of_parents: bool) -> list[str]:
    """Return what a label says of a setting, for each of the groups."""
    values = [one.get(path) for one in settings]
    if path in (_TASKS, _HELD_OUT, _PARENT_TASKS):
        lists = [list(value) if isinstance(value, list | tuple) else [value] for value in values]
        counts = [len(tasks) for tasks in lists]
        if len(set(counts)) == len({tuple(tasks) for tasks in lists}):
            return [_counted(path, count, of_parents) for count in counts]
        # As many tasks, but other ones: how many there are tells nothing.
        short = short_names(list(dict.fromkeys(str(task) for tasks in lists for task in tasks)))
        values = [[short[str(task)] for task in tasks] for tasks in lists]
    if path == STEPS_OF_PARENT:
        told = ["unknown" if value is None else compact(value) for value in values]
        plain = len(set(told)) < len(set(values))
        return [
            f"pre-trained for {value if plain and value is not None else word} steps"
            for value, word in zip(values, told, strict=True)
        ]
    words = {_PARENT_TASKS: "pre-trained on", _HELD_OUT: "held out"}
    of_parent = "parent's " if path.startswith(OF_PARENT) else ""
    name = words.get(path, of_parent + path.rpartition(".")[2])
    return [f"{name} {_short(value)}" for value in values]


def _counted(path: str, count: int, of_parents: bool) -> str:
    if path == _HELD_OUT:
        return f"{count} held out"
    tasks = f"{count} task{'' if count == 1 else 's'}"
    return f"pre-trained on {tasks}" if path == _PARENT_TASKS or of_parents else tasks


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
