"""What Ray's errors mean for a run: the cause in one line, and whether it would recur."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import ray

from repertory.errors import ClusterFailure, RepertoryError

log = logging.getLogger(__name__)


class PartLost(ClusterFailure):
    """The learner or the replay died or answers no more; a checkpoint brings it back."""


class PartnerLost(PartLost):
    """A learner lost another one, whose own fault, if it lives to tell, says more."""


ANSWER_S = 60.0
"""The learner's event loop answers in milliseconds; a minute without an answer means it is lost."""
START_S = 300.0
"""For a process to be there, with all that it builds."""
STATE_S = 300.0
"""For a replay's contents to be read or restored."""
OPEN_S = 3 * START_S + STATE_S
"""Before learners learn, the driver waits for their processes, for their meeting, and for the start
of each, which restores: workers, built meanwhile, wait for their first answer so long.
"""

_NODE = re.compile(r"IP: ([^,)\s]+).*? was ([\d.]+)GB used / ([\d.]+)GB")
_LARGEST = re.compile(r"^PID\tMEM\(GB\)\tCOMMAND\n\d+\t([\d.]+)\t(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class End:
    """How a worker's process ended."""

    reason: str
    for_memory: bool = False
    """Whether Ray chose it because its node was short of memory, whoever had taken that."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: Ray's have paragraphs."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def last_line(error: BaseException) -> str:
    """Return the last line of an error's text, where a traceback has its message."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def cause_of(error: Any) -> BaseException:
    """Return what the code in an actor raised; its remote traceback goes to the log."""
    cause = error.cause
    if isinstance(cause, RepertoryError):
        return cause
    log.error("an actor's code failed:\n%s", error.traceback_str)
    return RuntimeError(f"{type(cause).__name__}: {first_line(cause)}")


def in_a_line(error: BaseException) -> str:
    """Return what is worth knowing of what Ray says of an actor that is gone."""
    match error:
        case ray.exceptions.OutOfMemoryError():
            return _killed_for_memory(str(error))
        case ray.exceptions.ActorDiedError():
            # First a line that says nothing, then names and numbers, each after a tab.
            _, *lines = str(error).strip().splitlines() or [""]
            said = [line.strip() for line in lines if line.strip() and not line.startswith("\t")]
            return said[0] if said else first_line(error)
        case _:
            return first_line(error)


def _killed_for_memory(text: str) -> str:
    node, largest = _NODE.search(text), _LARGEST.search(text.replace("users: PID", "users:\nPID"))
    if node is None:
        return "killed by Ray because its node was short of memory"
    address, used, limit = node.groups()
    sentence = (
        f"killed by Ray because node {address} was short of memory "
        f"({float(used):.1f} of {float(limit):.1f} GB)"
    )
    if largest is None:
        return sentence
    return f"{sentence}; most had {PurePath(largest[2]).name}, {float(largest[1]):.1f} GB"


def why_ended(running: Any) -> End:
    """Return why a worker's process died; raise what its own code raised, for that would recur."""
    try:
        ray.get(running, timeout=ANSWER_S)
    except ray.exceptions.RayTaskError as error:
        # Where the learner did not answer it: whether that lives, the next heartbeat tells.
        if isinstance(error.cause, ClusterFailure):
            return End(first_line(error.cause))
        if isinstance(error.cause, ray.exceptions.RayError):
            return End(f"no answer from the learner: {in_a_line(error.cause)}")
        raise cause_of(error) from error
    except ray.exceptions.RayError as error:
        return End(in_a_line(error), for_memory=isinstance(error, ray.exceptions.OutOfMemoryError))
    return End("ended by itself")
