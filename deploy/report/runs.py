"""Finds runs and reads them: what a report knows of each, and of the runs they began with."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy import schema
from deploy.export.folder import is_exported
from deploy.report.evaluations import Evaluation, read_evaluations
from deploy.report.series import Metrics, read_metrics
from repertory.errors import BadInput
from repertory.run_directory import CONFIG, RunDirectory

log = logging.getLogger(__name__)

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
    def trained_before(self) -> tuple[str, ...]:
        """Tasks that the weights which it began with were trained on; none for most."""
        if not self.parent or self.from_scratch:
            return ()
        return tuple(self.settings.get("initial.parent_tasks") or ())

    def has_never_trained_on(self, task: str) -> bool:
        """Whether neither it nor the run that it began with trained on a task."""
        return task not in self.tasks and task not in self.trained_before

    def counts(self, task: str, *, trained: bool) -> bool:
        """Whether what it did on a task counts as what it learned, or else as zero-shot."""
        return task in self.tasks if trained else self.has_never_trained_on(task)

    @property
    def exported(self) -> bool:
        """Whether it is an exported agent, which keeps nothing of its training."""
        return is_exported(self.path)

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
    run = read_settings(path)
    directory = RunDirectory(path.expanduser())
    return replace(
        run,
        metrics=read_metrics(directory.metrics),
        evaluations=read_evaluations(directory.evaluations, run.trained_before),
    )


def read_settings(path: Path) -> ReportedRun:
    """Read what a run was set to, without anything that it wrote while it ran."""
    config, protocol = RunDirectory.open(path).read_config()
    settings = schema.flatten(config.model_dump(mode="json"))
    return ReportedRun(path, settings, protocol, Metrics(), ())
