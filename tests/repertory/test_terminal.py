"""The terminal shows what it has, on a tty and without one, and never chokes on a row."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from rich.console import Console

from repertory.metrics.terminal import TerminalView, render_svg
from repertory.metrics.terminal_layout import view
from repertory.metrics.terminal_numbers import duration, short
from repertory.metrics.terminal_tasks import choose_tasks, guidance

Row = dict[str, float | int | str]


def tasks_of(count: int) -> list[str]:
    return [f"atari/asteroids/m{index}d0" for index in range(count)]


def row(tasks: list[str], step: int) -> Row:
    values: Row = {
        "env_steps": 1000 * step,
        "frames": 4000 * step,
        "updates": 10 * step,
        "wall_s": 5.0 * step,
        "learner/total_loss": 1.5,
        "health/actors_alive": 2,
        "health/actor_restarts": 1,
        "replay/dropped_stale": 12,
    }
    for index, task in enumerate(tasks):
        values[f"task/{task}/return"] = float(index)
        values[f"task/{task}/episodes"] = step
        values[f"task/{task}/lag"] = 1.25
        values[f"task/{task}/queue"] = 0.5
    return values


def drawn(values: Row, tasks: list[str], *, width: int = 100, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(view(values, {}, tasks, 10_000, "a run", height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("height", [10, 24, 60])
@pytest.mark.parametrize("count", [0, 1, 10, 63])
def test_any_number_of_tasks_fits_any_terminal(count: int, height: int) -> None:
    tasks = tasks_of(count)
    lines = drawn(row(tasks, 3), tasks, height=height)
    assert len(lines) <= height
    text = "\n".join(lines)
    shown = [task for task in tasks if f"{task} " in text]
    if count <= height - 8:
        assert shown == tasks
    else:
        assert f"... {count - len(shown)} more" in text
    for words in (
        "3,000 / 10,000",
        "30.0%",
        "total_loss 1.5",
        "actors 2",
        "restarts 1",
        "stale 12",
    ):
        assert words in text


def test_best_and_worst_are_shown_where_not_all_fit() -> None:
    tasks = tasks_of(63)
    values = row(tasks, 1)
    del values[f"task/{tasks[62]}/return"]
    best, worst, rest = choose_tasks(values, tasks, room=8)
    assert best == [tasks[61], tasks[60], tasks[59], tasks[58]]
    assert worst == [tasks[2], tasks[1], tasks[0]]
    assert len(best) + len(worst) + len(rest) == 63
    assert tasks[62] in rest
    for room in range(1, 70):
        groups = choose_tasks(values, tasks, room)
        assert sorted(groups[0] + groups[1] + groups[2]) == sorted(tasks)
        assert len(groups[0]) + len(groups[1]) + bool(groups[2]) <= room


@pytest.mark.parametrize("width", [20, 40, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    tasks = tasks_of(3)
    values = row(tasks, 3) | {f"learner/a_long_name_{i}": 1.0 for i in range(20)}
    assert max(map(len, drawn(values, tasks, width=width, height=40))) <= width


def test_odd_rows_are_tolerated() -> None:
    tasks = ["[red]not markup[/nonsense]", "b"]
    odd: list[Row] = [
        {},
        {"env_steps": 5},
        {"env_steps": float("nan"), "wall_s": "soon", "unknown/thing": 3},
        {"env_steps": 7, "wall_s": 1.0, "task/b/return": float("inf"), "task/b/queue": "full"},
        {"env_steps": 7, "wall_s": 1.0, "actor/steps_per_s": 0.0},
    ]
    for live in (True, False):
        stream = io.StringIO()
        shown = TerminalView(tasks, 0, "[a] title [/b]", console=Console(file=stream), live=live)
        for values in odd:
            shown.write(values)
        shown.close()
    assert "[red]not markup[/nonsense]" in "\n".join(drawn(odd[3], tasks))


def test_without_a_tty_each_row_with_steps_is_one_plain_line() -> None:
    stream = io.StringIO()
    shown = TerminalView(tasks_of(2), 10_000, "a run", console=Console(file=stream))
    shown.write(row(tasks_of(2), 1) | {"agg/return_mean": 3.25})
    shown.write({"eval/greedy/return": 3.0})
    shown.write(row(tasks_of(2), 2))
    shown.close()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "1,000/10,000 steps (10.0%) | return 3.25 | updates 10"
        " | actors 2   restarts 1   dropped stale 12",
        "2,000/10,000 steps (20.0%) | 200 steps/s | 40s left | return 3.25 | updates 20"
        " | actors 2   restarts 1   dropped stale 12",
    ]


def test_a_resumed_run_is_timed_from_where_it_went_on() -> None:
    stream = io.StringIO()
    shown = TerminalView([], 10_000, "a run", console=Console(file=stream))
    for steps, wall in ((8000, 1000.0), (8100, 1001.0), (8200, 1002.0)):
        shown.write({"env_steps": steps, "wall_s": wall})
    assert "100 steps/s | 18s left" in stream.getvalue().splitlines()[-1]


LIVE = """
import sys
from repertory.metrics.terminal import TerminalView
shown = TerminalView(["atari/pong/m0d0"], 1000, "a live run")
for step in range(3):
    shown.write({"env_steps": 100 * step, "wall_s": step, "task/atari/pong/m0d0/return": 2.5})
    print("a log line", file=sys.stderr)
shown.close()
"""


def on_a_pty(environment: dict[str, str]) -> str:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=clean | {"TERM": "xterm-256color"} | environment,
    )
    os.close(slave)
    output = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        output += part
    os.close(master)
    assert process.wait(timeout=30) == 0
    return output.decode()


def test_on_a_tty_the_view_is_redrawn_in_place_and_the_cursor_given_back() -> None:
    output = on_a_pty({})
    assert "\x1b[1A" in output or re.search(r"\x1b\[\d*A", output)
    assert output.count("a live run") >= 3
    assert "atari/pong/m0d0" in output
    assert output.count("a log line") == 3
    assert output.index("\x1b[?25l") < output.index("\x1b[?25h")


def test_in_continuous_integration_a_tty_gets_plain_lines() -> None:
    output = on_a_pty({"CI": "true"})
    assert "\x1b[" not in output
    assert "200/1,000 steps (20.0%) | 100 steps/s | 8s left" in output


def test_the_picture_is_whole_xml_that_loads_nothing() -> None:
    tasks = tasks_of(5)
    rows: list[Any] = [row(tasks, step) for step in range(1, 4)]
    picture = render_svg(rows, tasks=tasks, total_steps=10_000, title="quickstart")
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    assert "@font-face" not in picture
    assert "url(http" not in picture.replace('"', "")
    for words in ("quickstart", "atari/asteroids/m4d0", "800&#160;frames/s"):
        assert words in picture
    assert picture == render_svg(rows, tasks=tasks, total_steps=10_000, title="quickstart")


def test_numbers_and_times_are_short() -> None:
    assert [duration(s) for s in (0.0, 59.4, 59.6, 247.0, 7500.0, 273_600.0)] == [
        "0s",
        "59s",
        "1m00s",
        "4m07s",
        "2h05m",
        "3d04h",
    ]
    samples = [None, 0.0, 1.23456, -0.00012, 999.96, 12_345.6, 3e9, -4e-12, 1_234_567.0]
    assert [short(value) for value in samples] == [
        "-",
        "0",
        "1.235",
        "-1.20e-04",
        "1000",
        "12,346",
        "3.00e+09",
        "-4.00e-12",
        "1,234,567",
    ]


def guided_row(tasks: list[str]) -> Row:
    values = row(tasks, 3)
    for index, task in enumerate(tasks):
        del values[f"task/{task}/queue"]
        values[f"task/{task}/success"] = 0.25 * index
        values[f"task/{task}/guided"] = 0.1 * index
        values[f"task/{task}/temperature"] = 0.0625
        values[f"task/{task}/replay_fill"] = 0.75
        values[f"task/{task}/blocked"] = float(index == 2)
    values["agg/success_mean"] = 0.375
    values["actor/guided"] = 0.34
    values["actor/guide_filtered"] = 0.12
    values["actor/guide_strongest_task"] = 1
    values["actor/guide_strongest_guide"] = 0
    values["actor/guide_strongest_share"] = 0.41
    return values


def test_guidance_is_one_line_and_columns_of_the_table() -> None:
    tasks = [f"metaworld/{name}" for name in ("reach", "push", "door-open")]
    lines = drawn(guided_row(tasks), tasks, width=100)
    text = "\n".join(lines)
    assert "guidance 34% of steps, most reach -> push 41%; 12% filtered, 1 task blocked" in text
    (head,) = [line for line in lines if line.startswith("task ")]
    columns = ["task", "return", "success", "guided", "temp", "episodes", "lag", "replay"]
    assert head.split() == columns
    cells = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("metaworld/")}
    assert cells["metaworld/push"] == ["1", "25%", "10%", "0.0625", "3", "1.25", "75%"]
    assert "success 38%" in text
    # Without a guide nothing of this is there.
    plain = "\n".join(drawn(row(tasks, 3), tasks))
    for word in ("guid", "success", "temp", "replay "):
        assert word not in plain


def test_guidance_by_experts_and_before_any_is_told_too() -> None:
    tasks = ["metaworld/reach", "metaworld/push"]
    values = guided_row(tasks) | {"actor/guide_strongest_guide": 2}
    assert guidance(values, tasks).startswith("34% of steps, most expert policy 0 -> push 41%;")
    assert guidance({"actor/guided": 0.0, "actor/guide_strongest_task": 1}, tasks) == (
        "0% of steps"
    )
    values["task/metaworld/reach/blocked"] = values["task/metaworld/push/blocked"] = 1.0
    assert "2 tasks blocked" in guidance(values, tasks)


@pytest.mark.parametrize("height", [10, 24])
@pytest.mark.parametrize("count", [1, 10, 50])
def test_a_guided_view_fits_the_terminal_too(count: int, height: int) -> None:
    tasks = tasks_of(count)
    lines = drawn(guided_row(tasks), tasks, height=height, width=80)
    assert len(lines) <= height
    assert max(map(len, lines)) <= 80


def test_plain_lines_tell_success_and_the_share_that_is_guided() -> None:
    stream = io.StringIO()
    shown = TerminalView(tasks_of(3), 10_000, "a run", console=Console(file=stream))
    shown.write(guided_row(tasks_of(3)))
    assert " | success 38% | guided 34% | " in stream.getvalue()
