"""Who guides whom: the steps of each task by whose policy acted, kept over the course of a run.

Axes: M tasks, C candidates (the tasks' own policies in their order, then those of experts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from repertory.metrics import names
from repertory.metrics.heat_map import MatrixPicture
from repertory.metrics.jsonl import read_rows, standing
from repertory.ports import State

MATRICES = 200
"""Matrices of a whole run, however long it is: enough for a picture over time, and small."""


@dataclass(frozen=True, slots=True)
class GuideMatrix:
    """Whose policy acted in the steps between two points of a run."""

    candidates: tuple[str, ...]
    """Names of whose policies may act; the first M are the tasks."""
    since: int
    """Agent steps at the beginning; `axes` are those at the end."""
    axes: Mapping[str, float | int]
    counts: Int64[np.ndarray, "M C"]
    """Steps of task i in which candidate j acted."""

    def row(self) -> dict[str, Any]:
        """Return the matrix as a row of `guidance.jsonl`."""
        return {
            **self.axes,
            "since_env_steps": self.since,
            "candidates": list(self.candidates),
            "steps": self.counts.tolist(),
        }

    def picture(self) -> MatrixPicture:
        """Return the matrix's shares as W&B shows them."""
        end = self.axes[names.ENV_STEPS]
        legend = ", ".join(f"{index} {name}" for index, name in enumerate(self.candidates))
        said = (
            f"% of each row's steps in which the column's policy acted, steps {self.since:,} to "
            f"{end:,}: {legend}"
        )
        return MatrixPicture(names.GUIDE_MAP, said, self.axes, shares(self.counts))


class Strongest(NamedTuple):
    """The guide of another task that acts most."""

    task: int
    guide: int
    share: float


class GuideMatrices:
    """Sums counts until the next matrix is due, at `MATRICES` equal parts of the budget."""

    def __init__(self, tasks: int, candidates: Sequence[str], total_steps: int) -> None:
        self.candidates = tuple(candidates)
        self.since = 0
        """Agent steps when the matrix at hand was begun."""
        self._every = total_steps / MATRICES
        self._axes: dict[str, float | int] = {}
        self._counts = np.zeros((tasks, len(self.candidates)), np.int64)

    def add(
        self, counts: Int64[np.ndarray, "M C"], axes: Mapping[str, float | int]
    ) -> GuideMatrix | None:
        """Add the steps of a report; return the matrix if it is due.

        Candidates that never acted may be left out at the end of `counts`.
        """
        self._counts[:, : counts.shape[1]] += counts
        self._axes = dict(axes)
        due = self._axes[names.ENV_STEPS] - self.since >= self._every
        return self.rest() if due else None

    def rest(self) -> GuideMatrix | None:
        """Return what was added since the last matrix, and begin the next one; None for nothing."""
        if not self._counts.any():
            return None
        matrix = GuideMatrix(self.candidates, self.since, self._axes, self._counts)
        self.since = int(self._axes[names.ENV_STEPS])
        self._counts = np.zeros_like(self._counts)
        return matrix

    def state(self) -> State:
        """Return the matrix at hand, for a checkpoint."""
        return {
            "candidates": list(self.candidates),
            "since": self.since,
            "axes": dict(self._axes),
            "counts": self._counts.copy(),
        }

    def restore(self, state: State) -> None:
        """Take up the matrix at hand of a run whose candidates were the same."""
        self.since = int(state["since"])
        self._axes = dict(state["axes"])
        self._counts = np.array(state["counts"], np.int64)


def shares(counts: Int64[np.ndarray, "M C"]) -> Float64[np.ndarray, "M C"]:
    """Return each row's shares; NaN where a task took no step."""
    whole = counts.sum(axis=1, keepdims=True, dtype=np.float64)
    parts = np.full(counts.shape, np.nan)
    np.divide(counts, whole, out=parts, where=whole > 0)
    return parts


def strongest(counts: Int64[np.ndarray, "M C"]) -> Strongest | None:
    """Return who acts most for another task, as a share of its steps; None if nobody does."""
    others = np.nan_to_num(shares(counts))
    np.fill_diagonal(others, 0.0)
    task, guide = np.unravel_index(int(others.argmax()), others.shape)
    share = float(others[task, guide])
    return Strongest(int(task), int(guide), share) if share > 0 else None


def read_matrices(path: Path) -> list[GuideMatrix]:
    """Return the matrices of a `guidance.jsonl`, oldest first; no file is no matrices.

    Those of steps that the run went back from are left out: each step is in one matrix.
    """
    return [
        GuideMatrix(
            candidates=tuple(row["candidates"]),
            since=int(row["since_env_steps"]),
            axes={axis: row[axis] for axis in names.X_AXES if axis in row},
            counts=np.array(row["steps"], np.int64),
        )
        for row in standing(read_rows(path))
    ]
