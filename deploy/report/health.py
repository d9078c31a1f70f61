"""What the machinery of runs did over time: throughput, lag, queues, replay, faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deploy.report.charts import MEDIUM
from deploy.report.curves import metric, of_groups
from deploy.report.figures import Figure, figure
from deploy.report.runs import Group
from deploy.report.series import QUEUE_FILL, REPLAY_FILL
from repertory.metrics import names

HEALTH = (
    ("Throughput", "agent steps per second", names.STEPS_PER_S),
    ("Updates", "per second", "learner/updates_per_s"),
    ("Lag", "versions between acting and learning, mean", "lag/mean"),
    ("Learner waits", "share of its time", "learner/waiting"),
    ("Queues", "rows over target, mean over tasks", QUEUE_FILL),
    ("Replay", "share of the rings in use, mean over tasks", REPLAY_FILL),
    ("Replayed", "steps per step inserted", "replay/samples_per_insert"),
    ("Dropped as stale", "rows so far", "replay/dropped_stale"),
    ("Dropped by full queues", "rows so far", "replay/dropped_overflow"),
    ("Workers", "alive", names.ACTORS_ALIVE),
    ("Workers replaced", "so far", names.ACTOR_RESTARTS),
    ("Updates skipped", "not finite, so far", "learner/nonfinite_updates"),
)
"""(title, unit, metric); what a run has not is left out."""


def health(groups: Sequence[Group]) -> list[Figure]:
    """Return what the machinery did over the course of the runs."""
    found = []
    for title, unit, name in HEALTH:
        curves = of_groups(groups, metric(name), MEDIUM.points)
        if curves:
            # Rates are noisy: their intervals would hide their course.
            nothing = [np.full_like(c.middle, np.nan) for c in curves]
            bare = [replace(c, low=n, high=n) for c, n in zip(curves, nothing, strict=True)]
            found.append(figure(title, title, unit, bare, MEDIUM))
    return found
