"""What the terminal shows of a run, as pure functions of the newest values of its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from repertory.metrics import names
from repertory.metrics.terminal_numbers import Values, duration, number, short
from repertory.metrics.terminal_tasks import guidance, tasks_table

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
    for label, name in (("success", names.SUCCESS_MEAN), ("guided", names.GUIDED_SHARE)):
        share = number(values, name)
        if share is not None:
            parts.append(f"{label} {share:.0%}")
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
    guided = guidance(values, tasks)
    room = height - _LINES_AROUND_TASKS - bool(guided)
    parts.append(tasks_table(values, tasks, max(1, room)))
    if guided:
        parts.append(Text("guidance " + guided, no_wrap=True, overflow="ellipsis"))
    learner = _learner(values)
    if learner:
        parts.append(Text(learner, no_wrap=True, overflow="ellipsis"))
    health = _health(values)
    if health:
        parts.append(Text("health   " + health, no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


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
    success = number(values, names.SUCCESS_MEAN)
    if success is not None:
        parts.append(f"success {success:.0%}")
    return Text(
        "   ".join(parts) or "waiting for the first step", no_wrap=True, overflow="ellipsis"
    )


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
