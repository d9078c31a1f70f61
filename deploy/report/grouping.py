"""Groups runs that differ in nothing but their seed, and names the groups."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.report.labels import BUDGET_OF_PARENT, OF_PARENT, STEPS_OF_PARENT, labels_of
from deploy.report.parents import Origin, Origins, are_near
from deploy.report.runs import Group, ReportedRun

# What a group's runs may differ in: none of it changes what is learned, but by chance.
_FREE = re.compile(r"seed|address|logging\..*|checkpoint\..*|initial\.(parent|checkpoint)")
# Fine-tuning takes one run per task: they are one group, whose runs have different tasks, and
# recipes named after them.
_FREE_IN_CHILDREN = re.compile(r"tasks|held_out|recipe")
_FREE_FROM_SCRATCH = re.compile(r"initial\.parent_tasks")
_TOLD_OTHERWISE = ("recipe", "tasks", "held_out")
"""Settings of a parent that its children's names and `initial.parent_tasks` tell already."""


def grouped(runs: Sequence[ReportedRun]) -> list[Group]:
    """Group runs of the same settings, in the order in which their first ones come.

    Fine-tuned runs must have begun with runs of one group too, trained for as long. Pre-trained
    agents stand before those fine-tuned from them, and those before baselines.
    """
    origins = Origins(runs)
    by_settings: dict[str, list[ReportedRun]] = {}
    for run in runs:
        by_settings.setdefault(_identity(run, origins), []).append(run)
    order = {id(run): place for place, run in enumerate(runs)}
    members = sorted(
        (apart for alike in by_settings.values() for apart in _by_origin(alike, origins)),
        key=lambda runs: (bool(runs[0].parent), runs[0].from_scratch, order[id(runs[0])]),
    )
    labels = _labels([runs[0] for runs in members], origins)
    return [
        Group(index, label, sorted(runs, key=lambda run: (run.seed, run.name)))
        for index, (label, runs) in enumerate(zip(labels, members, strict=True))
    ]


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the dotted paths whose values are not the same everywhere."""
    paths = dict.fromkeys(path for one in settings for path in one)
    return [
        path
        for path in paths
        if any(one.get(path) != settings[0].get(path) for one in settings[1:])
    ]


def _identity(run: ReportedRun, origins: Origins, children: tuple[str, ...] = ()) -> str:
    """Return what runs of one group have in common; of fine-tuned ones, their parents' too."""
    kept = {path: value for path, value in run.settings.items() if not _is_free(path, run)}
    origin, place = origins.of(run), str(run.path.resolve())
    parent = ""
    if origin is not None and origin.run is not None and origin.place not in (place, *children):
        parent = _identity(origin.run, origins, (*children, place))
    return json.dumps([bool(run.parent), run.recipe, kept, parent], sort_keys=True)


def _by_origin(runs: Sequence[ReportedRun], origins: Origins) -> list[list[ReportedRun]]:
    """Take runs of one identity apart by how long the weights that they began with were trained.

    Where parents are not to be found, and some seed's run on a task is there of several, nobody
    knows which of them are alike: then each parent's children are a group of their own.
    """
    moments: list[tuple[list[Origin], list[ReportedRun]]] = []
    known = [(origins.of(run), run) for run in runs]
    first = [run for origin, run in known if origin is None]
    for origin, run in known:
        if origin is None:
            continue
        for theirs, together in moments:
            if all(origin.is_of_one_moment(one) for one in theirs):
                theirs.append(origin)
                together.append(run)
                break
        else:
            moments.append(([origin], [run]))
    found = [first] if first else []
    for theirs, together in moments:
        places: dict[str, list[ReportedRun]] = {}
        parents: dict[tuple[int, tuple[str, ...]], set[str]] = {}
        for origin, run in zip(theirs, together, strict=True):
            places.setdefault(origin.place, []).append(run)
            parents.setdefault((run.seed, run.tasks), set()).add(origin.place)
        unsure = theirs[0].run is None and any(len(of_seed) > 1 for of_seed in parents.values())
        found += list(places.values()) if unsure else [together]
    return found


def _is_free(path: str, run: ReportedRun) -> bool:
    """Whether runs of one group may differ in this setting."""
    free = [_FREE]
    if run.parent:
        free.append(_FREE_IN_CHILDREN)
    if run.from_scratch:
        free.append(_FREE_FROM_SCRATCH)
    return any(pattern.fullmatch(path) for pattern in free)


def _labels(firsts: Sequence[ReportedRun], origins: Origins) -> list[str]:
    """Name groups by their recipes, and by settings where recipes are the same."""
    names = []
    for run in firsts:
        kind = " from scratch" if run.from_scratch else " fine-tuned"
        names.append(run.recipe + (kind if run.parent else ""))
    settings = [
        {
            **run.settings,
            "tasks": list(run.tasks),
            "held_out": list(run.held_out),
            **_of_parent(origins.of(run)),
        }
        for run in firsts
    ]

    def told(indices: Sequence[int]) -> list[str]:
        paths = differing([settings[index] for index in indices])
        # What a child has of its parent is told once; so is how long that was trained.
        again = {OF_PARENT + path for path in paths}
        if STEPS_OF_PARENT in paths:
            again.add(BUDGET_OF_PARENT)
        # Nor does it tell anything that the parents of some are not to be found.
        again.update(
            path
            for path in paths
            if path.startswith(OF_PARENT) and any(path not in settings[i] for i in indices)
        )
        known = (settings[index].get(STEPS_OF_PARENT) for index in indices)
        steps = [int(one) for one in known if one is not None]
        left = [p for p in paths if p not in again and not _is_free(p, firsts[indices[0]])]
        if len(left) > 1 and len(steps) == len(indices) and are_near(min(steps), max(steps)):
            # As good as equal, and something else tells.
            left = [path for path in left if path != STEPS_OF_PARENT]
        return sorted(left, key=lambda path: path != STEPS_OF_PARENT)

    directories = [run.name for run in firsts]
    return labels_of(
        names, settings, told, directories, of_parents=any(run.parent for run in firsts)
    )


def _of_parent(origin: Origin | None) -> dict[str, Any]:
    """Return what may tell a group from others by what its runs began with."""
    if origin is None:
        return {}
    parent = origin.run
    settings: Mapping[str, Any] = parent.settings if parent is not None else {}
    return {STEPS_OF_PARENT: origin.steps_within_budget} | {
        OF_PARENT + path: value
        for path, value in settings.items()
        if parent is not None and path not in _TOLD_OTHERWISE and not _is_free(path, parent)
    }
