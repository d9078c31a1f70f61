"""Which tasks pull together: cosines between their gradients, kept over the course of a run.

Axes: M tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from repertory.metrics import names
from repertory.metrics.heat_map import MatrixPicture
from repertory.metrics.jsonl import read_rows, standing

MAPS = 200
"""Maps of each network in a whole run, however long it is."""
WHOLE = "actor_critic"
"""What a network that is a learner's only one is called."""


@dataclass(frozen=True, slots=True)
class CosineSums:
    """Cosines between the tasks' gradients of one network, added up over measurements."""

    network: str
    """`actor`, `critic`, or `WHOLE`."""
    sums: Float64[np.ndarray, "M M"]
    counts: Int64[np.ndarray, "M M"]
    """Measurements in which neither gradient was zero."""
    overlap: Float64[np.ndarray, "M M"] | None = None
    """Jaccard index of what two tasks do not own, at the last measurement under masks."""

    def mean(self) -> Float64[np.ndarray, "M M"]:
        """Return mean cosines; NaN for pairs that were never compared."""
        means = np.full(self.sums.shape, np.nan)
        np.divide(self.sums, self.counts, out=means, where=self.counts > 0)
        return means

    def __add__(self, later: CosineSums) -> CosineSums:
        """Return both together."""
        overlap = self.overlap if later.overlap is None else later.overlap
        sums, counts = self.sums + later.sums, self.counts + later.counts
        return CosineSums(self.network, sums, counts, overlap)


@dataclass(frozen=True, slots=True)
class GradientMap:
    """How the tasks' gradients of one network lay to each other between two points of a run."""

    tasks: tuple[str, ...]
    network: str
    since: int
    """Agent steps at the beginning; `axes` are those at the end."""
    axes: Mapping[str, float | int]
    measurements: int
    cosine: Float64[np.ndarray, "M M"]
    """Means over the measurements; NaN where one of two gradients was always zero."""
    overlap: Float64[np.ndarray, "M M"] | None

    def row(self) -> dict[str, Any]:
        """Return the map as a row of `gradients.jsonl`, to four decimals; null for unknown."""
        row = {
            **self.axes,
            "since_env_steps": self.since,
            "network": self.network,
            "tasks": list(self.tasks),
            "measurements": self.measurements,
            "cosine": _rounded(self.cosine),
        }
        return row if self.overlap is None else {**row, "overlap": _rounded(self.overlap)}

    def pictures(self) -> list[MatrixPicture]:
        """Return the cosines, and the overlap where there is one, as W&B shows them."""
        ending = "" if self.network == WHOLE else f"_{self.network}"
        legend = ", ".join(f"{index} {name}" for index, name in enumerate(self.tasks))
        steps = f"steps {self.since:,} to {self.axes[names.ENV_STEPS]:,}: {legend}"
        said = f"hundredths of the cosine between two tasks' gradients, red below 0, {steps}"
        found = [MatrixPicture(f"{names.COSINE_MAP}{ending}", said, self.axes, self.cosine)]
        if self.overlap is not None:
            said = f"% overlap of what two tasks do not own, {steps}"
            picture = MatrixPicture(f"{names.OVERLAP_MAP}{ending}", said, self.axes, self.overlap)
            found.append(picture)
        return found


class GradientMaps:
    """Sums measurements until the next maps are due, at `MAPS` equal parts of the budget."""

    def __init__(self, tasks: Sequence[str], total_steps: int) -> None:
        self.tasks = tuple(tasks)
        self.since = 0
        """Agent steps when the maps at hand were begun; set it where a run is resumed."""
        self._every = total_steps / MAPS
        self._axes: dict[str, float | int] = {}
        self._sums: dict[str, CosineSums] = {}

    def add(
        self, measured: Sequence[CosineSums], axes: Mapping[str, float | int]
    ) -> list[GradientMap]:
        """Add what a report brings, and return a map of each network if they are due."""
        for one in measured:
            before = self._sums.get(one.network)
            self._sums[one.network] = one if before is None else before + one
        self._axes = dict(axes)
        due = axes[names.ENV_STEPS] - self.since >= self._every
        return self.rest() if due else []

    def rest(self) -> list[GradientMap]:
        """Return what was added since the last maps, and begin the next ones."""
        found = [
            GradientMap(
                self.tasks,
                one.network,
                self.since,
                self._axes,
                int(one.counts.max()),
                one.mean(),
                one.overlap,
            )
            for one in self._sums.values()
        ]
        if found:
            self.since = int(self._axes[names.ENV_STEPS])
        self._sums = {}
        return found


def read_maps(path: Path) -> list[GradientMap]:
    """Return the maps of a `gradients.jsonl`, oldest first; no file is no maps.

    Those of steps that the run went back from are left out.
    """
    return [
        GradientMap(
            tasks=tuple(row["tasks"]),
            network=row["network"],
            since=int(row["since_env_steps"]),
            axes={axis: row[axis] for axis in names.X_AXES if axis in row},
            measurements=int(row["measurements"]),
            cosine=np.array(row["cosine"], np.float64),
            overlap=np.array(row["overlap"], np.float64) if "overlap" in row else None,
        )
        for row in standing(read_rows(path))
    ]


def _rounded(matrix: Float64[np.ndarray, "M M"]) -> list[list[float | None]]:
    return [[None if np.isnan(x) else round(float(x), 4) for x in row] for row in matrix]
