"""The terminal's table of tasks, and its line on who guides whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from repertory.metrics import names
from repertory.metrics.terminal_numbers import Values, number, percent, short


class _Column(NamedTuple):
    name: str
    metric: str
    written: Callable[[float | None], str]
    always: bool
    """Whether the column is there before any task has the metric."""


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


_COLUMNS = (
    _Column("return", names.RETURN, short, True),
    _Column("success", names.SUCCESS, percent, False),
    _Column("guided", names.GUIDED, percent, False),
    _Column("temp", names.TEMPERATURE, short, False),
    _Column("episodes", names.EPISODES, _count, True),
    _Column("lag", names.LAG, short, True),
    _Column("queue", names.QUEUE, percent, False),
    _Column("replay", names.REPLAY_FILL, percent, False),
)


def choose_tasks(
    values: Values, tasks: Sequence[str], room: int
) -> tuple[list[str], list[str], list[str]]:
    """Return (best, worst, rest) where not all tasks fit into `room` lines.

    With room for all, they are all in `best`, in their own order. One line is kept for the rest.
    """
    if len(tasks) <= room:
        return list(tasks), [], []
    heard = {task: number(values, names.task_metric(task, names.RETURN)) for task in tasks}
    ranked = sorted(
        (task for task in tasks if heard[task] is not None),
        key=lambda task: heard[task] or 0.0,
        reverse=True,
    )
    shown = max(0, room - 1)
    best = ranked[: (shown + 1) // 2]
    worst = ranked[len(best) :][-(shown // 2) :] if shown // 2 else []
    visible = {*best, *worst}
    return best, worst, [task for task in tasks if task not in visible]


def tasks_table(values: Values, tasks: Sequence[str], room: int) -> Table:
    """Return a line per task, with the columns that any task has something for."""
    columns = [c for c in _COLUMNS if c.always or any(_heard(values, tasks, c.metric))]
    table = Table(box=None, expand=True, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("task", ratio=1, no_wrap=True, overflow="ellipsis")
    for column in columns:
        table.add_column(column.name, justify="right", no_wrap=True, min_width=len(column.name))
    best, worst, rest = choose_tasks(values, tasks, room)
    for task in best:
        cells = _task_cells(values, task, columns)
        table.add_row(*cells, style="green" if rest else "")
    if rest:
        table.add_row(*_rest_cells(values, rest, columns), style="dim")
    for task in worst:
        table.add_row(*_task_cells(values, task, columns), style="yellow")
    return table


def guidance(values: Values, tasks: Sequence[str]) -> str:
    """Return how much is guided, by whom most, and what the gates held back; "" if unguided."""
    guided = number(values, names.GUIDED_SHARE)
    if guided is None:
        return ""
    line = f"{guided:.0%} of steps"
    task, guide = number(values, names.STRONGEST_TASK), number(values, names.STRONGEST_GUIDE)
    share = number(values, names.STRONGEST_SHARE)
    if guided and task is not None and guide is not None and share is not None:
        line += f", most {_candidate(tasks, guide)} -> {_candidate(tasks, task)} {share:.0%}"
    gates = []
    filtered = number(values, names.FILTERED_SHARE)
    if filtered is not None:
        gates.append(f"{filtered:.0%} filtered")
    blocked = [number(values, names.task_metric(task, names.BLOCKED)) for task in tasks]
    if any(blocked):
        count = sum(value or 0 for value in blocked)
        gates.append(f"{count:.0f} {'task' if count == 1 else 'tasks'} blocked")
    return "; ".join([line, ", ".join(gates)] if gates else [line])


def _candidate(tasks: Sequence[str], index: float) -> str:
    """Return the end of a task's name, or a number for the policy of an expert."""
    place = int(index)
    return (
        tasks[place].rpartition("/")[2]
        if 0 <= place < len(tasks)
        else f"expert policy {place - len(tasks)}"
    )


def _heard(values: Values, tasks: Sequence[str], metric: str) -> list[bool]:
    return [number(values, names.task_metric(task, metric)) is not None for task in tasks]


def _task_cells(values: Values, task: str, columns: Sequence[_Column]) -> list[Text]:
    cells = [
        column.written(number(values, names.task_metric(task, column.metric))) for column in columns
    ]
    return [Text(task), *map(Text, cells)]


def _rest_cells(values: Values, rest: Sequence[str], columns: Sequence[_Column]) -> list[Text]:
    note = f"... {len(rest)} more, their means"
    silent = _heard(values, rest, names.RETURN).count(False)
    if silent:
        note += f" ({silent} without an episode)"
    cells = []
    for column in columns:
        found = [number(values, names.task_metric(task, column.metric)) for task in rest]
        heard = [value for value in found if value is not None]
        mean = sum(heard) / len(heard) if heard else None
        # A mean of counts is no whole number.
        cells.append(short(mean) if column.written is _count else column.written(mean))
    return [Text(note), *map(Text, cells)]
