"""The exit code of a command is that of its work, though a library would crash when closed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploy import process_end

CRASHES_WHEN_CLOSED = """
import atexit, os, signal
from deploy import cli, process_end
def crash():
    os.kill(os.getpid(), signal.SIGSEGV)
atexit.register(crash)  # as Ray does
def run(tokens, debug):
    process_end.close_or_leave(crash)
    print("done")
    return 3
cli._run = run
cli.main({arguments})
"""


def ended(arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES_WHEN_CLOSED.format(arguments=arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_a_command_that_left_something_open_keeps_its_exit_code_and_its_last_words():
    assert ended("") == (3, "done\n")


def test_whoever_calls_the_command_line_from_python_finds_everything_closed():
    code, _ = ended("['train']")
    assert code == -11


@pytest.fixture
def _in_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_end, "_PROCESS", process_end._Process())
    process_end.belongs_to_command()


@pytest.mark.usefixtures("_in_a_command")
def test_what_was_left_open_is_closed_before_the_next_is_opened():
    closed: list[str] = []
    process_end.close_or_leave(lambda: closed.append("first"))
    assert closed == []
    process_end.close_left()
    process_end.close_left()
    assert closed == ["first"]


@pytest.mark.usefixtures("_in_a_command")
def test_a_command_that_left_nothing_open_ends_as_any_process():
    with pytest.raises(SystemExit) as ending:
        process_end.end(4)
    assert ending.value.code == 4
