"""What agents could do on a task before they were fine-tuned to it: the zero-shot level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deploy.report.charts import Level
from deploy.report.curves import half_width
from deploy.report.evaluations import Evaluation, read_evaluations
from deploy.report.parents import places_of
from deploy.report.runs import Group, ReportedRun, read_settings
from repertory.errors import BadInput


class ZeroShotLevels:
    """The newest zero-shot evaluations of the parents of runs that are fine-tuned.

    Parents in the report are a level for each of their groups. Of parents that are not, but are
    where the run says, there is one of the group that was fine-tuned from them; they are read once.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._elsewhere: dict[Path, Sequence[Evaluation]] = {}

    def of(self, task: str, policy: str, *, success: bool) -> list[Level]:
        """Return the levels of a task that runs are tuned to, for curves of one policy.

        Their labels name it: a level is no measure for curves of another.
        """
        tuned = [r for g in self._groups for r in g.runs if r.parent and task in r.tasks]
        # By name, because what a run says of its parent's place is older than a move.
        wanted = {Path(run.parent).name for run in tuned}
        found = []
        for group in self._groups:
            parents = [run for run in group.runs if run.name in wanted and task not in run.tasks]
            wanted -= {run.name for run in parents}
            found += _level(group, [run.evaluations for run in parents], task, policy, success)
        # The baseline's parent is the fine-tuned run's, whose colour says more.
        for group in sorted(self._groups, key=lambda group: group.runs[0].from_scratch):
            elsewhere = {
                Path(run.parent).name: run
                for run in group.runs
                if task in run.tasks and Path(run.parent).name in wanted
            }
            wanted -= set(elsewhere)
            of_parents = [self._of_parent(run) for run in elsewhere.values()]
            found += _level(group, of_parents, task, policy, success)
        return found

    def _of_parent(self, run: ReportedRun) -> Sequence[Evaluation]:
        """Return the evaluations of a parent that is not reported; none if it is not found."""
        for folder in places_of(run):
            if folder.is_dir():
                if folder not in self._elsewhere:
                    found = read_evaluations(folder / "evaluations", _before(folder))
                    self._elsewhere[folder] = found
                return self._elsewhere[folder]
        return []


def _level(
    group: Group,
    evaluations: Iterable[Sequence[Evaluation]],
    task: str,
    policy: str,
    success: bool,
) -> list[Level]:
    values = [
        value
        for of_run in evaluations
        for one in of_run
        if (one.task, one.policy) == (task, policy) and one.history == "never"
        for value in [one.success if success else one.mean]
        if value is not None
    ]
    if not values:
        return []
    name = f"zero-shot, {policy}"
    return [Level(group.index, float(np.mean(values)), half_width(np.array(values)), name)]


def _before(folder: Path) -> Sequence[str]:
    try:
        return read_settings(folder).trained_before
    except BadInput:
        return ()
