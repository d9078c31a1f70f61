"""What several learners tell, as if one had told it: heartbeats, reports, experience.

Only experience is told in parts. What the learners themselves count is the same in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deploy.cluster.messages import Heartbeat, Report
from repertory.ports import State

_SUMMED = (
    "steps",
    "dropped",
    "replay_rows",
    "environment_errors",
    "rows",
    "rows_open",
    "stream_breaks",
    "refused",
    "dropped_overflow",
    "dropped_stale",
    "short_shares",
)
"""Last words of the names of counters; all other metrics are shares, ages and means."""
_LARGEST = ("lag/max", "health/tasks_given_up")
_CONTENTS = ("rows", "unrolls", "rings", "limiter", "assembler", "window", "episodes")


def joined_heartbeat(beats: Sequence[Heartbeat]) -> Heartbeat:
    """Return one sign of life; of failures the first, whoever has it."""
    return Heartbeat(
        updates=beats[0].updates,
        env_steps=sum(beat.env_steps for beat in beats),
        silent_s={worker: s for beat in beats for worker, s in beat.silent_s.items()},
        failure=next((beat.failure for beat in beats if beat.failure is not None), None),
        delivered={worker: steps for beat in beats for worker, steps in beat.delivered.items()},
    )


def joined_report(reports: Sequence[Report]) -> Report:
    """Return one report: counters added up, other metrics averaged over those who have them."""
    first = reports[0]
    guides = [report.guides for report in reports if report.guides is not None]
    return Report(
        updates=first.updates,
        env_steps=sum(report.env_steps for report in reports),
        metrics=joined_metrics([report.metrics for report in reports]),
        episodes=[episode for report in reports for episode in report.episodes],
        guides=_added(guides) if guides else None,
        faults=[fault for report in reports for fault in report.faults],
        cosines=first.cosines,
    )


def joined_metrics(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return one row of metrics; a row's own where there is one."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        if name.rpartition("/")[2] in _SUMMED:
            found[name] = sum(values)
        elif name in _LARGEST:
            found[name] = max(values)
        else:
            found[name] = sum(values) / len(values)
    return found


def _added(guides: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum of counts, of which those with fewer candidates have none of the others."""
    widest = max(counts.shape[1] for counts in guides)
    wide = [np.pad(counts, ((0, 0), (0, widest - counts.shape[1]))) for counts in guides]
    total: np.ndarray = np.sum(wide, axis=0)
    return total


def joined_experience(shares: Sequence[State]) -> State:
    """Return what several learners' experience counted, as one's without contents.

    So a checkpoint of several learners is one that any number can go on from.
    """
    joined = without_contents(shares[0])
    joined["refused"] = sum(int(share["refused"]) for share in shares)
    for books in ("counters", "records"):
        if books in joined:
            joined[books] = {
                task: _counted([share[books][task] for share in shares]) for task in joined[books]
            }
    return joined


def without_contents(experience: State) -> State:
    """Return an experience's counters and positions alone."""
    return {name: part for name, part in experience.items() if name not in _CONTENTS}


def _counted(of_learners: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what several learners counted of a task: numbers added up, lists one after another."""
    joined: dict[str, Any] = {}
    for name, first in of_learners[0].items():
        own = [counted[name] for counted in of_learners]
        match first:
            case list():
                joined[name] = [each for entries in own for each in entries]
            case np.ndarray():
                joined[name] = _added([counts[None] for counts in own])[0]
            case _:
                joined[name] = max(own) if name == "lag_max" else sum(own)
    return joined
