"""How the tasks of one network got along over training: gradients' cosines, harmony, masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deploy.report.charts import MEDIUM, Level
from deploy.report.curves import Curve, half_width, metric, of_groups
from deploy.report.figures import Figure, figure
from deploy.report.runs import Group

NETWORKS = (("", ""), ("_actor", ", actor"), ("_critic", ", critics"))
"""(ending of a metric, of a title); an actor-critic network has neither."""
MEASURES = (
    ("Gradient cosine", "mean over pairs of tasks", "learner/gradient_cosine_mean", ""),
    ("Harmony", "sign agreement with the mean", "learner/harmony", "learner/harmony_null"),
    ("Harmony with the others", "0 if independent", "learner/harmony_others", ""),
    ("Mask overlap", "Jaccard index, mean over pairs", "learner/mask_overlap", ""),
    ("Mask flips", "weights a task, since the row before", "learner/mask_flips", ""),
)
"""(title, unit, metric, what independent gradients would score)."""
NULL = "if independent"


def harmony(groups: Sequence[Group]) -> list[Figure]:
    """Return a figure of each measure and network that some group has."""
    found = []
    for title, unit, name, null in MEASURES:
        for ending, network in NETWORKS:
            curves = of_groups(groups, metric(name + ending), MEDIUM.points)
            # Masks that stay as they are say nothing by never changing.
            if not curves or (name.endswith("flips") and not any(map(_moves, curves))):
                continue
            levels = _levels(groups, null + ending) if null else []
            whole = f"{title}{network}"
            found.append(figure(whole, whole, unit, _bare(curves), MEDIUM, levels=levels))
    return found


def _levels(groups: Sequence[Group], name: str) -> list[Level]:
    """Return the newest null value of each group, which changes no more than its masks do."""
    levels = []
    for group in groups:
        read = [run.metrics.series[name].last for run in group.runs if name in run.metrics]
        if read:
            values = np.array(read)
            levels.append(Level(group.index, float(values.mean()), half_width(values), NULL))
    return levels


def _moves(curve: Curve) -> bool:
    return any(bool(np.any(y)) for _, y in curve.seeds)


def _bare(curves: Sequence[Curve]) -> list[Curve]:
    """Return curves without their intervals, which would hide the course of what is noisy."""
    nothing = [np.full_like(curve.middle, np.nan) for curve in curves]
    return [replace(c, low=n, high=n) for c, n in zip(curves, nothing, strict=True)]
