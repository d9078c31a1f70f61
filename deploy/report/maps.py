"""Draws matrices over tasks as inline SVG: whose policy acted, whose gradients agree.

Axes: M rows, C columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64
from markupsafe import Markup

from deploy.report.runs import Group
from repertory.metrics.gradient_maps import GradientMap, read_maps
from repertory.metrics.guidance import GuideMatrix, read_matrices, shares
from repertory.metrics.names import ENV_STEPS
from repertory.run_directory import RunDirectory

PARTS = 3
"""Maps of a run: its beginning, its middle, its end."""
_SIDE = 336
_LEVELS = 20
_NUMBERS_FROM = 24
"""Cells so large hold their number."""


@dataclass(frozen=True, slots=True)
class TaskMap:
    """One matrix with the names of its rows and columns, and when it was taken."""

    caption: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Float64[np.ndarray, "M C"]
    """In [-1, 1]; NaN for unknown."""


def guide_maps(group: Group) -> list[TaskMap]:
    """Return whose policy acted in each third of the group's training, all seeds together."""
    matrices = [
        matrix
        for run in group.runs
        for matrix in read_matrices(RunDirectory(run.path).guidance)
        if matrix.counts.shape == (len(run.tasks), len(matrix.candidates))
    ]
    if not matrices:
        return []
    # Runs with other tasks cannot be added up: those of the first one are shown.
    candidates = matrices[0].candidates
    alike = [matrix for matrix in matrices if matrix.candidates == candidates]
    tasks = len(alike[0].counts)
    maps = []
    for begin, stop, caption in _parts(max(_end(matrix) for matrix in alike)):
        inside = [one for one in alike if begin < 0.5 * (one.since + _end(one)) <= stop]
        counts: Int64[np.ndarray, "M C"] = np.zeros((tasks, len(candidates)), np.int64)
        for matrix in inside:
            counts = counts + matrix.counts
        if counts.any():
            maps.append(TaskMap(caption, candidates[:tasks], candidates, shares(counts)))
    return maps


def cosine_maps(group: Group) -> dict[str, list[TaskMap]]:
    """Return cosines between tasks' gradients, and masks' overlaps, by title, for each third."""
    found: dict[str, list[tuple[int, Sequence[str], Float64[np.ndarray, "M M"]]]] = {}
    for run in group.runs:
        for one in read_maps(RunDirectory(run.path).gradients):
            network = one.network.replace("_", "-")
            for title, values in (
                (network, one.cosine),
                (f"{network}, overlap of what two tasks do not own", one.overlap),
            ):
                if values is not None and values.shape == (len(one.tasks), len(one.tasks)):
                    found.setdefault(title, []).append((_end(one), one.tasks, values))
    maps: dict[str, list[TaskMap]] = {}
    for title, taken in found.items():
        names = taken[0][1]
        for begin, stop, caption in _parts(max(end for end, _, _ in taken)):
            inside = [c for end, tasks, c in taken if begin < end <= stop and tasks == names]
            if inside:
                mean = _mean_of_known(np.stack(inside))
                maps.setdefault(title, []).append(TaskMap(caption, names, names, mean))
    return maps


def strongest_guides(of: TaskMap, count: int = 12) -> list[tuple[str, str, float]]:
    """Return (task, guide, share) of the most that other policies acted, most first."""
    others = np.nan_to_num(of.values.copy())
    np.fill_diagonal(others, 0.0)
    order = np.argsort(-others, axis=None)[:count]
    rows, columns = np.unravel_index(order, others.shape)
    return [
        (of.rows[row], of.columns[column], float(others[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if others[row, column] > 0
    ]


def draw(of: TaskMap, label: str) -> Markup:
    """Return the map as a picture: stronger is more, the second colour is below zero.

    Colours are proportional to values where cells have room for a number, else to their roots.
    """
    rows, columns = of.values.shape
    side = max(4, min(60, _SIDE // max(rows, columns)))
    margin = 26
    width, height = margin + columns * side + 1, margin + rows * side + 1
    parts = [
        Markup('<svg class="map" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            width, height, label
        )
    ]
    # Cells of the same strength are one path: 2,500 cells stay a few kilobytes.
    cells: dict[tuple[str, int], list[str]] = defaultdict(list)
    # Without numbers in them, small values would be lost: roots lift them.
    power = 1.0 if side >= _NUMBERS_FROM else 0.5
    for (row, column), value in np.ndenumerate(of.values):
        place = f"M{margin + column * side} {margin + row * side}h{side - 1}v{side - 1}h{1 - side}z"
        if np.isnan(value):
            cells["unknown", _LEVELS].append(place)
            continue
        level = round(min(1.0, abs(float(value))) ** power * _LEVELS)
        if level:
            cells["more" if value > 0 else "less", level].append(place)
    frame = (
        f"M{margin - 1} {margin - 1}h{columns * side + 1}v{rows * side + 1}h-{columns * side + 1}z"
    )
    parts.append(Markup('<path class="frame" d="{}"/>').format(frame))
    for (kind, level), places in sorted(cells.items()):
        parts.append(
            Markup('<path class="{}" fill-opacity="{:g}" d="{}"/>').format(
                kind, level / _LEVELS, "".join(places)
            )
        )
    parts.append(_indices(rows, columns, side, margin))
    if side >= _NUMBERS_FROM:
        parts.append(_numbers(of.values, side, margin))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _indices(rows: int, columns: int, side: int, margin: int) -> Markup:
    every = max(1, -(-14 // side))
    every = every if every < 3 else 5 if every < 6 else 10
    parts = []
    for index in range(0, max(rows, columns), every):
        middle = margin + index * side + side / 2
        if index < columns:
            parts.append(
                Markup('<text class="tick" x="{:g}" y="{}" text-anchor="middle">{}</text>').format(
                    middle, margin - 7, index + 1
                )
            )
        if index < rows:
            parts.append(
                Markup('<text class="tick" x="{}" y="{:g}" text-anchor="end">{}</text>').format(
                    margin - 6, middle + 4, index + 1
                )
            )
    return Markup("").join(parts)


def _numbers(values: Float64[np.ndarray, "M C"], side: int, margin: int) -> Markup:
    parts = []
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value) or abs(value) < 0.005:
            continue
        parts.append(
            Markup('<text class="cell{}" x="{:g}" y="{:g}">{}</text>').format(
                " strong" if abs(value) > 0.55 else "",
                margin + (column + 0.5) * side,
                margin + (row + 0.5) * side + 4,
                f"{100 * value:.0f}".replace("-", "\N{MINUS SIGN}"),
            )
        )
    return Markup("").join(parts)


def _parts(end: int) -> list[tuple[int, int, str]]:
    """Return beginning, end and caption of the equal parts of a run's agent steps."""
    edges = [end * part // PARTS for part in range(PARTS + 1)]
    return [(begin, stop, f"steps {begin:,} to {stop:,}") for begin, stop in pairwise(edges)]


def _end(taken: GuideMatrix | GradientMap) -> int:
    return int(taken.axes[ENV_STEPS])


def _mean_of_known(matrices: Float64[np.ndarray, "K M M"]) -> Float64[np.ndarray, "M M"]:
    known = ~np.isnan(matrices)
    means = np.full(matrices.shape[1:], np.nan)
    np.divide(np.nansum(matrices, axis=0), known.sum(axis=0), out=means, where=known.any(axis=0))
    return means
