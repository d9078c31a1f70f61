"""What the terminal shows of a run, as pure functions of the newest values of its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from repertory.metrics import names

Values = Mapping[str, object]
_LEARNER = "learner/"
_LEARNER_SHOWN = 6
_LINES_AROUND_TASKS = 8
"""Title, bar, rates, learner, health, and the table's head and rules."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is and how fast it goes; None is not known yet."""

    steps: float
    share: float
    steps_per_s: float | None
    frames_per_s: float | None
    left_s: float | None


def number(values: Values, name: str) -> float | None:
    """Return a finite number, or None where the name is missing or holds anything else."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def progress(values: Values, earlier: Values, total_steps: int) -> Progress:
    """Return the progress; rates not among the values are taken from an earlier row's."""
    steps = number(values, names.ENV_STEPS) or 0.0
    rate = number(values, names.STEPS_PER_S)
    if rate is None:
        rate = _rate(values, earlier, names.ENV_STEPS)
    left = max(0.0, total_steps - steps) / rate if rate else None
    share = min(1.0, steps / total_steps) if total_steps > 0 else 0.0
    return Progress(steps, share, rate, _rate(values, earlier, names.FRAMES), left)


def plain_line(values: Values, earlier: Values, total_steps: int) -> str:
    """Return one line for logs and pipes."""
    now = progress(values, earlier, total_steps)
    parts = [f"{now.steps:,.0f}/{total_steps:,} steps ({now.share:.1%})"]
    if now.steps_per_s is not None:
        parts.append(f"{now.steps_per_s:,.0f} steps/s")
    if now.left_s is not None:
        parts.append(f"{duration(now.left_s)} left")
    mean = number(values, names.RETURN_MEAN)
    if mean is not None:
        parts.append(f"return {short(mean)}")
    for label, name in (("updates", names.UPDATES), ("episodes", names.EPISODES_TOTAL)):
        count = number(values, name)
        if count is not None:
            parts.append(f"{label} {count:,.0f}")
    health = _health(values)
    return " | ".join(parts + ([health] if health else []))


def view(
    values: Values,
    earlier: Values,
    tasks: Sequence[str],
    total_steps: int,
    title: str,
    height: int,
) -> RenderableType:
    """Return the whole view, at most `height` lines of it."""
    now = progress(values, earlier, total_steps)
    parts: list[RenderableType] = [Rule(Text(title, style="bold"), style="cyan")]
    parts.append(_bar(now, total_steps))
    parts.append(_rates(values, now))
    parts.append(_tasks(values, tasks, max(1, height - _LINES_AROUND_TASKS)))
    learner = _learner(values)
    if learner:
        parts.append(Text(learner, no_wrap=True, overflow="ellipsis"))
    health = _health(values)
    if health:
        parts.append(Text("health   " + health, no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


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


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 4m07s, 2h05m, 3d04h."""
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minutes}m{second:02d}s" if minutes else f"{second}s"


def short(value: float | None) -> str:
    """Return a number in at most eight characters, and a dash for none."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def _rate(values: Values, earlier: Values, name: str) -> float | None:
    now, then = number(values, name), number(earlier, name)
    time, time_then = number(values, names.WALL_S), number(earlier, names.WALL_S)
    if now is None or then is None or time is None or time_then is None or time <= time_then:
        return None
    return max(0.0, now - then) / (time - time_then)


def _bar(now: Progress, total_steps: int) -> Table:
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    left = f"{duration(now.left_s)} left" if now.left_s is not None else ""
    line.add_row(
        ProgressBar(total=1.0, completed=now.share),
        Text(f"{now.steps:,.0f} / {total_steps:,} steps  {now.share:6.1%}  {left}"),
    )
    return line


def _rates(values: Values, now: Progress) -> Text:
    parts = []
    if now.steps_per_s is not None:
        parts.append(f"{now.steps_per_s:,.0f} steps/s")
    if now.frames_per_s is not None:
        parts.append(f"{now.frames_per_s:,.0f} frames/s")
    updates, wall = number(values, names.UPDATES), number(values, names.WALL_S)
    if updates is not None:
        parts.append(f"{updates:,.0f} updates")
    if wall is not None:
        parts.append(f"running {duration(wall)}")
    mean = number(values, names.RETURN_MEAN)
    if mean is not None:
        parts.append(f"mean return {short(mean)}")
    return Text(
        "   ".join(parts) or "waiting for the first step", no_wrap=True, overflow="ellipsis"
    )


def _tasks(values: Values, tasks: Sequence[str], room: int) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("task", ratio=1, no_wrap=True, overflow="ellipsis")
    for column in ("return", "episodes", "lag", "queue"):
        table.add_column(column, justify="right", no_wrap=True, min_width=8)
    best, worst, rest = choose_tasks(values, tasks, room)
    for task in best:
        table.add_row(*_task_cells(values, task), style="green" if rest else "")
    if rest:
        table.add_row(*_rest_cells(values, rest), style="dim")
    for task in worst:
        table.add_row(*_task_cells(values, task), style="yellow")
    return table


def _task_cells(values: Values, task: str) -> list[Text]:
    def metric(name: str) -> float | None:
        return number(values, names.task_metric(task, name))

    episodes, queue = metric(names.EPISODES), metric(names.QUEUE)
    return [
        Text(task),
        Text(short(metric(names.RETURN))),
        Text("-" if episodes is None else f"{episodes:,.0f}"),
        Text(short(metric(names.LAG))),
        Text("-" if queue is None else f"{queue:.0%}"),
    ]


def _rest_cells(values: Values, rest: Sequence[str]) -> list[Text]:
    def mean(name: str) -> float | None:
        found = [number(values, names.task_metric(task, name)) for task in rest]
        heard = [value for value in found if value is not None]
        return sum(heard) / len(heard) if heard else None

    returns = [number(values, names.task_metric(task, names.RETURN)) for task in rest]
    silent = sum(value is None for value in returns)
    note = f"... {len(rest)} more, their means"
    if silent:
        note += f" ({silent} without an episode)"
    queue = mean(names.QUEUE)
    return [
        Text(note),
        Text(short(mean(names.RETURN))),
        Text(short(mean(names.EPISODES))),
        Text(short(mean(names.LAG))),
        Text("-" if queue is None else f"{queue:.0%}"),
    ]


def _learner(values: Values) -> str:
    shown = [
        f"{name.removeprefix(_LEARNER)} {short(value)}"
        for name in values
        if name.startswith(_LEARNER) and (value := number(values, name)) is not None
    ]
    return "learner  " + "   ".join(shown[:_LEARNER_SHOWN]) if shown else ""


def _health(values: Values) -> str:
    parts = []
    alive, restarts = number(values, names.ACTORS_ALIVE), number(values, names.ACTOR_RESTARTS)
    if alive is not None:
        parts.append(f"actors {alive:.0f}")
    if restarts:
        parts.append(f"restarts {restarts:.0f}")
    for name in values:
        count = number(values, name)
        if name.startswith(names.DROPPED) and count:
            parts.append(f"dropped {name.removeprefix(names.DROPPED)} {count:,.0f}")
    return "   ".join(parts)
