"""Tables of a report: what ran, evaluations per task, fine-tuned beside scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.report.comparisons import values_of
from deploy.report.curves import by_seed, half_width
from deploy.report.evaluations import Evaluation
from deploy.report.numbers import MISSING, compact, duration, percentage, plain, with_interval
from deploy.report.runs import Group


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a cell; a number is set to the right."""

    text: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; where `columns` name groups, `groups` says which, -1 for others."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    """(name of the row, its cells)"""
    groups: Sequence[int] = ()
    row_groups: Sequence[int] = ()


def overview(groups: Sequence[Group], policy: str) -> Table:
    """Return one row per group: seeds, how far they came, what they reached."""
    judged = any(_reached(group, policy, success=True) != MISSING for group in groups)
    rows = []
    for group in groups:
        steps = [run.metrics.env_steps for run in group.runs]
        budget = int(group.runs[0].settings["total_steps"])
        done = min(steps) / budget
        seeds = [str(runs[0].seed) for runs in by_seed(group)]
        rows.append(
            (
                group.label,
                [
                    Cell(f"{len(seeds)} ({', '.join(seeds)})"),
                    Cell(str(len(group.tasks))),
                    Cell(compact(min(steps)) + ("" if done >= 0.999 else f" of {compact(budget)}")),
                    Cell(duration(max(run.metrics.wall_s for run in group.runs))),
                    Cell(_reached(group, policy, success=False)),
                    *([Cell(_reached(group, policy, success=True))] if judged else []),
                ],
            )
        )
    return Table(
        "Runs of the same settings are one line, a seed each; ± is half of the 95 % interval "
        "over seeds (Student's t), from three seeds on.",
        ["", "seeds", "tasks", "agent steps", "wall time", f"{policy} return"]
        + (["success"] if judged else []),
        rows,
        row_groups=[group.index for group in groups],
    )


def evaluation(
    groups: Sequence[Group],
    names: Sequence[str],
    policy: str,
    *,
    trained: bool,
) -> Table | None:
    """Return the newest evaluations of trained or of unseen tasks, one column per group."""
    shown = [
        (group, success)
        for group in groups
        for success in (True, False)
        if _any(group, names, policy, trained=trained, success=success)
    ]
    random = any(_random(groups, task) for task in names)
    rows = []
    for task in names:
        cells = [_cell(group, task, policy, trained, success) for group, success in shown]
        if all(cell.text == MISSING for cell in cells):
            continue
        cells = _marked(groups, shown, task, policy, trained, cells)
        if random:
            values = _random(groups, task)
            cells.append(Cell(plain(float(np.mean(values))) if values else MISSING))
        rows.append((task, cells))
    if not rows:
        return None
    columns = ["task"]
    columns += [f"{group.label}: {'success' if success else 'return'}" for group, success in shown]
    columns += ["random play: return"] if random else []
    caption = (
        f"The newest evaluation of each task ({policy}), mean over seeds ± half of the 95 % "
        "interval over them; bold is the best mean, be the difference chance or not."
    )
    indices = [-1, *(group.index for group, _ in shown), *([-1] if random else [])]
    return Table(caption, columns, rows, groups=indices)


def fine_tuning(groups: Sequence[Group], policy: str) -> Table | None:
    """Return fine-tuned and from-scratch runs, and zero-shot play of their tasks, side by side."""
    children = [group for group in groups if group.runs[0].parent]
    if not children:
        return None
    tasks = list(dict.fromkeys(task for group in children for task in group.tasks))
    parents = [
        group
        for group in groups
        if not group.runs[0].parent and any(_values(group, task, policy, False) for task in tasks)
    ]
    shown = [*parents, *children]
    rows = []
    for task in tasks:
        cells = [Cell(as_text(_values(group, task, policy, success=False))) for group in shown]
        rows.append((task, cells))
    columns = ["task", *(f"{g.label}{', zero-shot' if g in parents else ''}" for g in shown)]
    return Table(
        f"Mean {policy} return on the tasks that were fine-tuned to, ± half of the 95 % interval "
        "over seeds.",
        columns,
        rows,
        groups=[-1, *(group.index for group in shown)],
    )


def _reached(group: Group, policy: str, *, success: bool) -> str:
    """Return the mean over tasks of the newest evaluations, over seeds."""
    means = []
    for runs in by_seed(group):
        found = [
            one.success if success else one.mean
            for run in runs
            for one in run.evaluations
            if one.policy == policy and one.task in run.tasks
        ]
        values = [value for value in found if value is not None]
        if values:
            means.append(float(np.mean(values)))
    return as_text(means, percent=success)


def as_text(values: Sequence[float], *, percent: bool = False) -> str:
    """Return the mean of seeds and half of its interval; a dash where there are none."""
    if not values:
        return MISSING
    return with_interval(float(np.mean(values)), half_width(np.array(values)), percent=percent)


def _values(
    group: Group, task: str, policy: str, success: bool, trained: bool | None = None
) -> list[float]:
    def judge(one: Evaluation) -> float | None:
        if trained is not None and one.trained_on != trained:
            return None
        return one.success if success else one.mean

    return values_of(group, task, policy, judge)


def _any(group: Group, names: Sequence[str], policy: str, *, trained: bool, success: bool) -> bool:
    return any(_values(group, task, policy, success, trained) for task in names)


def _cell(group: Group, task: str, policy: str, trained: bool, success: bool) -> Cell:
    return Cell(as_text(_values(group, task, policy, success, trained), percent=success))


def _marked(
    groups: Sequence[Group],
    shown: Sequence[tuple[Group, bool]],
    task: str,
    policy: str,
    trained: bool,
    cells: Sequence[Cell],
) -> list[Cell]:
    """Mark the best mean of each measure, where several groups have one."""
    marked = list(cells)
    if len(groups) < 2:
        return marked
    for measure in (True, False):
        means = {}
        for place, (group, success) in enumerate(shown):
            values = _values(group, task, policy, success, trained)
            if success == measure and values:
                means[place] = float(np.mean(values))
        if len(means) > 1 and len(set(means.values())) > 1:
            best = max(means, key=lambda place: means[place])
            marked[best] = Cell(cells[best].text, best=True)
    return marked


def _random(groups: Sequence[Group], task: str) -> list[float]:
    return [value for group in groups for value in _values(group, task, "random", False)]


def cut_episodes(groups: Sequence[Group]) -> str:
    """Return a remark where evaluation episodes were cut by their step limit; else nothing."""
    cut = sum(one.cut for g in groups for run in g.runs for one in run.evaluations)
    whole = sum(len(one.returns) for g in groups for run in g.runs for one in run.evaluations)
    share = percentage(cut / whole) if whole else ""
    return f"{cut} of {whole} evaluation episodes ({share}) were cut by a limit." if cut else ""
