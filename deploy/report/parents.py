"""Finds the runs whose weights others began with: in the report, or where they lie on disk."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.report.runs import ReportedRun, read_settings
from repertory import checkpoint
from repertory.errors import BadInput
from repertory.run_directory import CONFIG

_NEAR = 0.01
"""By so much of their steps checkpoints of different runs may differ and be of one moment: runs
on a cluster save some steps behind those that they were set to save at."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a fine-tuned run began with."""

    place: str
    """Of the earlier run, as far as it is known."""
    run: ReportedRun | None
    """The earlier run, without its metrics if it is not reported; None where it is not found."""
    steps: int | None
    """That its weights were trained for."""

    def is_of_one_moment(self, other: Origin) -> bool:
        """Whether the weights of both were trained for as long: of one run, exactly."""
        mine, theirs = self.steps_within_budget, other.steps_within_budget
        if mine is None or theirs is None or self.place == other.place:
            return self.steps == other.steps
        return are_near(mine, theirs)

    @property
    def steps_within_budget(self) -> int | None:
        """Steps that its weights were trained for, but for those beyond a run's budget: chance."""
        if self.steps is None or self.run is None:
            return self.steps
        return min(self.steps, int(self.run.settings["total_steps"]))


def are_near(one: int, other: int) -> bool:
    """Whether runs that were saved after so many steps may have been set to save at the same."""
    return abs(one - other) <= _NEAR * max(one, other)


def places_of(run: ReportedRun) -> list[Path]:
    """Return where the run's parent may lie: where the run says, and beside it after a move."""
    place = Path(run.parent).expanduser()
    places = (place, run.path.resolve().parent / place.name)
    return [one for one in places if one.resolve() != run.path.resolve()]


class Origins:
    """What each fine-tuned run of a report began with; parents that are not in it are read once."""

    def __init__(self, runs: Sequence[ReportedRun]) -> None:
        self._by_place = {run.path.resolve(): run for run in runs}
        self._read: dict[Path, ReportedRun | None] = {}

    def of(self, run: ReportedRun) -> Origin | None:
        """Return what a run began with; None for one that began by itself."""
        if not run.parent or run.from_scratch:
            return None
        parent = self._parent(run)
        place = parent.path.resolve() if parent else Path(run.parent).expanduser().absolute()
        return Origin(str(place), parent, _steps(run, parent))

    def _parent(self, run: ReportedRun) -> ReportedRun | None:
        places = [place.resolve() for place in places_of(run)]
        for place in places:
            if place in self._by_place:
                return self._by_place[place]
        for place in places:
            if place not in self._read:
                self._read[place] = _read(place)
            found = self._read[place]
            if found is not None:
                return found
        name = Path(run.parent).name
        named = [one for one in self._by_place.values() if one.name == name and one is not run]
        return named[0] if len(named) == 1 else None


def _read(place: Path) -> ReportedRun | None:
    try:
        return read_settings(place)
    except BadInput:
        # Gone, or of another version: then nothing is known of it.
        return None


def _steps(run: ReportedRun, parent: ReportedRun | None) -> int | None:
    """Return the steps in a checkpoint's name, or those that an exported agent tells."""
    with contextlib.suppress(BadInput):
        return checkpoint.step_of(Path(str(run.settings.get("initial.checkpoint") or "")))
    if parent is None or not parent.exported:
        return None
    try:
        about = json.loads((parent.path / CONFIG).read_text(encoding="utf-8"))["export"]
        return int(about["env_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
