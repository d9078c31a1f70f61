"""What Ray's errors mean for a run: the cause in one line, and whether it would recur."""

from __future__ import annotations

import logging
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


def why_ended(running: Any) -> str:
    """Return why a worker's process died; raise what its own code raised, for that would recur."""
    try:
        ray.get(running, timeout=ANSWER_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError | ClusterFailure):
            # The learner did not answer it; whether the learner lives, the next heartbeat tells.
            return first_line(error.cause)
        raise cause_of(error) from error
    except ray.exceptions.RayError as error:
        return first_line(error)
    return "ended by itself"
