"""The checkpoint at the end of a run: a disk that is full then must not lose the end unsaid."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from deploy.recorder import Recorder
from deploy.signals import StopRequest
from repertory import checkpoint

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)

ROOM_S = 300.0
"""So long a run that is done waits for room on its disk: somebody may be making some."""
STOPPING_S = 10.0
"""A run that was asked to stop has less time: schedulers kill what does not end."""
AGAIN_S = 5.0
"""Between two attempts."""


def save_last(
    save: Callable[[], bool], recorder: Recorder, run: RunDirectory, stop: StopRequest
) -> None:
    """Call `save` until `recorder` has written the last checkpoint, as long as there is time.

    A run that was asked to stop ends as stopped without it, and says since when nothing is saved.

    Raises:
        CheckpointFailed: `ROOM_S` were not enough; the sentence says what is lost.
    """
    begun = time.monotonic()
    while not save():
        waited_s = time.monotonic() - begun
        if waited_s >= (STOPPING_S if stop else ROOM_S):
            reason = recorder.save_failure
            if stop:
                tell_what_is_lost(run, reason)
                return
            raise checkpoint.CheckpointFailed(
                f"the run is done, but {reason}: {_lost(run)} is not saved{_way_back(run)}"
            )
        time.sleep(AGAIN_S)


def tell_what_is_lost(run: RunDirectory, reason: str) -> None:
    """Say since when nothing is saved of a run that was to stop and could not save its end."""
    log.warning("the run was to stop, but %s: %s is not saved", reason, _lost(run))
    kept = checkpoint.list_checkpoints(run.checkpoints)
    run.event("stopped_unsaved", reason=reason, checkpoint=kept[-1].name if kept else None)


def _way_back(run: RunDirectory) -> str:
    if not checkpoint.list_checkpoints(run.checkpoints):
        return ""
    return f"; with room on its disk it goes on from there: repertory train --resume {run.path}"


def _lost(run: RunDirectory) -> str:
    kept = checkpoint.list_checkpoints(run.checkpoints)
    if not kept:
        return "all of the run, which had no checkpoint yet,"
    written = datetime.fromtimestamp(kept[-1].stat().st_mtime, UTC)
    return f"what came after {kept[-1].name}, written at {written:%Y-%m-%d %H:%M:%S} UTC,"
