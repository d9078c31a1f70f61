"""Finds runs, reads them, and groups those that differ in nothing but their seed."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy import schema
from deploy.report.evaluations import Evaluation, read_evaluations
from deploy.report.labels import labels_of
from deploy.report.series import Metrics, read_metrics
from repertory.errors import BadInput
from repertory.run_directory import CONFIG, RunDirectory

log = logging.getLogger(__name__)

# What a group's runs may differ in: none of it changes what is learned, but by chance.
_FREE = re.compile(r"seed|address|logging\..*|checkpoint\..*|initial\.(parent|checkpoint)")
# Fine-tuning takes one run per task: they are one group, whose runs have different tasks, and
# recipes named after them.
_FREE_IN_CHILDREN = re.compile(r"tasks|held_out|recipe")
_FREE_FROM_SCRATCH = re.compile(r"initial\.parent_tasks")
_DERIVED = re.compile(r"-(?:finetune|scratch)(?:-.*)?$")


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """One run as a report sees it."""

    path: Path
    settings: Mapping[str, Any]
    """Of its config, by dotted path."""
    protocol: Mapping[str, Any]
    metrics: Metrics
    evaluations: Sequence[Evaluation]

    @property
    def name(self) -> str:
        """Name of its directory."""
        return self.path.resolve().name

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.settings["seed"])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks it trains on, suites spelled out."""
        return tuple(self.protocol.get("tasks") or self.settings["tasks"])

    @property
    def held_out(self) -> tuple[str, ...]:
        """Tasks kept out of training."""
        return tuple(self.protocol.get("held_out") or ())

    @property
    def parent(self) -> str:
        """Run that it fine-tunes, or is the baseline of; empty for most."""
        return str(self.settings.get("initial.parent") or "")

    @property
    def from_scratch(self) -> bool:
        """Whether it is a baseline that takes nothing over from its parent."""
        return self.settings.get("initial.reuse") == "none"

    @property
    def recipe(self) -> str:
        """Recipe that it, or the run it fine-tunes, was made by."""
        recipe = str(self.settings["recipe"])
        return _DERIVED.sub("", recipe) if self.parent else recipe


@dataclass(slots=True)
class Group:
    """Runs of the same settings, a seed each."""

    index: int
    label: str
    runs: list[ReportedRun] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        """Tasks that any of the runs trains on, in their order."""
        return list(dict.fromkeys(task for run in self.runs for task in run.tasks))


def find(paths: Sequence[Path]) -> list[Path]:
    """Return run directories: each path is one, or holds some. BadInput for anything else.

    Of the runs that a path holds, those whose config cannot be read are left out with a warning.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        path = path.expanduser()
        if path.is_dir() and not (path / CONFIG).is_file():
            inside = sorted(
                file.parent
                for file in path.glob(f"*/{CONFIG}")
                if RunDirectory(file.parent).checkpoints.is_dir()  # exported agents have none
                and _readable(file.parent)
            )
            if not inside:
                raise BadInput(
                    f"{path} is neither a run directory (it has no {CONFIG}) nor does it hold any"
                )
        else:
            inside = [RunDirectory.open(path).path]
        for run in inside:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _readable(run: Path) -> bool:
    try:
        RunDirectory(run).read_config()
    except BadInput as error:
        log.warning("a run is left out: %s", error)
        return False
    return True


def read(path: Path) -> ReportedRun:
    """Read a run; BadInput where its config cannot be read."""
    directory = RunDirectory.open(path)
    config, protocol = directory.read_config()
    return ReportedRun(
        path=path,
        settings=schema.flatten(config.model_dump(mode="json")),
        protocol=protocol,
        metrics=read_metrics(directory.metrics),
        evaluations=read_evaluations(directory.evaluations),
    )


def grouped(runs: Sequence[ReportedRun]) -> list[Group]:
    """Group runs of the same settings, in the order in which their first ones come.

    Pre-trained agents stand before those fine-tuned from them, and those before baselines.
    """
    by_settings: dict[str, list[ReportedRun]] = {}
    for run in runs:
        by_settings.setdefault(_identity(run), []).append(run)
    members = sorted(
        by_settings.values(), key=lambda runs: (bool(runs[0].parent), runs[0].from_scratch)
    )
    labels = _labels([runs[0] for runs in members])
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


def _identity(run: ReportedRun) -> str:
    kept = {path: value for path, value in run.settings.items() if not _is_free(path, run)}
    return json.dumps([bool(run.parent), run.recipe, kept], sort_keys=True)


def _is_free(path: str, run: ReportedRun) -> bool:
    """Whether runs of one group may differ in this setting."""
    free = [_FREE]
    if run.parent:
        free.append(_FREE_IN_CHILDREN)
    if run.from_scratch:
        free.append(_FREE_FROM_SCRATCH)
    return any(pattern.fullmatch(path) for pattern in free)


def _labels(firsts: Sequence[ReportedRun]) -> list[str]:
    """Name groups by their recipes, and by settings where recipes are the same."""
    names = []
    for run in firsts:
        kind = " from scratch" if run.from_scratch else " fine-tuned"
        names.append(run.recipe + (kind if run.parent else ""))
    settings = [
        {**run.settings, "tasks": list(run.tasks), "held_out": list(run.held_out)} for run in firsts
    ]

    def told(indices: Sequence[int]) -> list[str]:
        paths = differing([settings[index] for index in indices])
        return [path for path in paths if not _is_free(path, firsts[indices[0]])]

    directories = [run.name for run in firsts]
    return labels_of(
        names, settings, told, directories, of_parents=any(run.parent for run in firsts)
    )
