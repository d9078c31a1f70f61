"""Tables of a report: what ran, evaluations per task, fine-tuned beside scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.report.comparisons import values_of
from deploy.report.curves import by_seed, half_width
from deploy.report.evaluations import Evaluation, History
from deploy.report.numbers import MISSING, compact, duration, percentage, plain, with_interval
from deploy.report.runs import Group, ReportedRun


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
    history: History,
) -> Table | None:
    """Return the newest evaluations of tasks of one history, one column per group."""
    shown = [
        (group, success)
        for group in groups
        for success in (True, False)
        if _any(group, names, policy, history=history, success=success)
    ]
    random = any(_random(groups, task) for task in names)
    rows = []
    for task in names:
        cells = [_cell(group, task, policy, history, success) for group, success in shown]
        if all(cell.text == MISSING for cell in cells):
            continue
        cells = _marked(groups, shown, task, policy, history, cells)
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
    sides: list[tuple[Group, History]] = [
        *((group, "never") for group in groups if group not in children),
        *((group, "trained") for group in children),
    ]
    shown = [
        (group, history, success)
        for group, history in sides
        for success in (True, False)
        if _any(group, tasks, policy, history=history, success=success)
    ]
    if not shown:
        return None
    rows = []
    for task in tasks:
        cells = [_cell(group, task, policy, history, success) for group, history, success in shown]
        rows.append((task, cells))
    columns = ["task"]
    for group, history, success in shown:
        unseen = ", zero-shot" if history == "never" else ""
        columns.append(f"{group.label}{unseen}: {'success' if success else 'return'}")
    return Table(
        f"The tasks that were fine-tuned to: before (zero-shot), after, and from scratch ({policy} "
        "evaluation), mean over seeds ± half of the 95 % interval over them.",
        columns,
        rows,
        groups=[-1, *(group.index for group, _, _ in shown)],
    )


def _reached(group: Group, policy: str, *, success: bool) -> str:
    """Return the mean over tasks of the newest evaluations, over the seeds that have them all."""
    seeds = [_newest(runs, policy, success=success) for runs in by_seed(group)]
    whole = [values for values in seeds if values.keys() == set(group.tasks)]
    return as_text([float(np.mean(list(v.values()))) for v in whole], percent=success)


def _newest(runs: Sequence[ReportedRun], policy: str, *, success: bool) -> dict[str, float]:
    """Return the newest value of every task that one seed's runs train on and were evaluated on."""
    found = {
        one.task: one.success if success else one.mean
        for run in runs
        for one in run.evaluations
        if one.policy == policy and one.task in run.tasks
    }
    return {task: value for task, value in found.items() if value is not None}


def as_text(values: Sequence[float], *, percent: bool = False) -> str:
    """Return the mean of seeds and half of its interval; a dash where there are none."""
    if not values:
        return MISSING
    return with_interval(float(np.mean(values)), half_width(np.array(values)), percent=percent)


def _values(
    group: Group, task: str, policy: str, success: bool, history: History | None = None
) -> list[float]:
    def judge(one: Evaluation) -> float | None:
        if history is not None and one.history != history:
            return None
        return one.success if success else one.mean

    return values_of(group, task, policy, judge)


def _any(
    group: Group, names: Sequence[str], policy: str, *, history: History, success: bool
) -> bool:
    return any(_values(group, task, policy, success, history) for task in names)


def _cell(group: Group, task: str, policy: str, history: History, success: bool) -> Cell:
    return Cell(as_text(_values(group, task, policy, success, history), percent=success))


def _marked(
    groups: Sequence[Group],
    shown: Sequence[tuple[Group, bool]],
    task: str,
    policy: str,
    history: History,
    cells: Sequence[Cell],
) -> list[Cell]:
    """Mark the best mean of each measure, where several groups have one."""
    marked = list(cells)
    if len(groups) < 2:
        return marked
    for measure in (True, False):
        means = {}
        for place, (group, success) in enumerate(shown):
            values = _values(group, task, policy, success, history)
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
