"""How a command's process ends: with the exit code of its work, whatever a library does after.

Ray takes a driver apart in C++ while threads of its own still run. Once in some thousand runs that
ended in a segmentation fault, and a run that was done, saved and evaluated had the exit code of a
crash. A driver that joined a cluster need not be taken apart, if its process ends: the cluster
notices by itself, and ends the driver's actors.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn


@dataclass(slots=True)
class _Process:
    is_commands: bool = False
    left_open: list[Callable[[], object]] = field(default_factory=list)


_PROCESS = _Process()


def belongs_to_command() -> None:
    """Say that this process ends by `end`, as soon as its one command is done."""
    _PROCESS.is_commands = True


def close_or_leave(close: Callable[[], object]) -> None:
    """Call `close`, which the end of the process does as well: at once, or, in the process of a
    command, before the next thing is opened (`close_left`) or not at all.
    """
    _PROCESS.left_open.append(close)
    if not _PROCESS.is_commands:
        close_left()


def close_left() -> None:
    """Close what was left open, as another one is to be opened."""
    while _PROCESS.left_open:
        _PROCESS.left_open.pop()()


def end(code: int) -> NoReturn:
    """End the process with `code`; at once, if something was left open."""
    if not _PROCESS.left_open:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(code)
