"""Who guides whom is recorded whole, at a bounded size, and can be read back and seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Int64

from repertory.metrics.guidance import (
    MATRICES,
    GuideMatrices,
    GuideMatrix,
    read_matrices,
    shares,
    strongest,
)
from repertory.metrics.heat_map import heat_map
from repertory.metrics.jsonl import JsonlSink, to_json_line

NAMES = ("reach", "push", "open", "before:grasp")


def drawn(seed: int, candidates: int = 4) -> Int64[np.ndarray, "M C"]:
    return np.random.default_rng(seed).integers(0, 9, (3, candidates))


def axes(step: int) -> dict[str, float | int]:
    return {"env_steps": step, "frames": step, "updates": step // 2, "wall_s": step / 100}


def test_every_step_is_in_exactly_one_matrix_and_they_follow_each_other() -> None:
    total = 10_000
    kept = GuideMatrices(3, NAMES, total)
    made: list[GuideMatrix] = []
    reports = [(step, drawn(step, 3 + step % 2)) for step in range(7, total, 7)]
    for step, counts in reports:
        made += [matrix] if (matrix := kept.add(counts, axes(step))) is not None else []
    made += [rest] if (rest := kept.rest()) is not None else []
    slow = np.zeros((3, 4), np.int64)
    for _, counts in reports:
        for task in range(3):
            for guide in range(counts.shape[1]):
                slow[task, guide] += counts[task, guide]
    np.testing.assert_array_equal(sum(matrix.counts for matrix in made), slow)
    ends = [matrix.axes["env_steps"] for matrix in made]
    assert [matrix.since for matrix in made] == [0, *ends[:-1]]
    # A matrix ends with the first report after its part of the budget: 50 steps, every 7th.
    assert np.diff(ends)[:-1].tolist() == [56] * (len(ends) - 2)
    assert len(made) <= MATRICES + 1
    assert kept.rest() is None


def test_matrices_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    kept = GuideMatrices(3, NAMES, 1)
    made = [kept.add(drawn(step), axes(step)) for step in (10, 25, 30)]
    sink = JsonlSink(tmp_path / "guidance.jsonl")
    for matrix in made:
        assert matrix is not None
        sink.append(to_json_line(matrix.row()))
    sink.close()
    found = read_matrices(sink.path)
    assert [matrix.since for matrix in found] == [0, 10, 25]
    for matrix, original in zip(found, made, strict=True):
        assert original is not None
        assert (matrix.candidates, matrix.axes) == (NAMES, original.axes)
        np.testing.assert_array_equal(matrix.counts, original.counts)
    assert read_matrices(tmp_path / "none.jsonl") == []


def test_shares_are_of_each_tasks_own_steps_and_unknown_without_any() -> None:
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 50, 50]])
    found = shares(counts)
    np.testing.assert_array_equal(found[[0, 2]], [[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]])
    assert np.isnan(found[1]).all()
    assert strongest(counts) == (2, 1, 0.5)


def test_nobody_guides_where_every_task_acts_for_itself() -> None:
    assert strongest(np.diag([5, 0, 7])) is None
    # The policy of an expert is another one than the task's.
    assert strongest(np.array([[3, 0, 1]])) == (0, 2, 0.25)


@pytest.mark.parametrize("tasks", [1, 2, 10, 50])
def test_every_cell_of_a_heat_map_shows_its_share(tasks: int) -> None:
    # Each column has a share of its own, so that a cell out of place is seen.
    row = np.linspace(0.0, 1.0, tasks)
    matrix = np.stack([np.roll(row, shift) for shift in range(tasks)])
    matrix[-1] = np.nan
    picture = heat_map(matrix)
    height, width, _ = picture.shape
    assert max(height, width) <= 1000
    side = min(64, max(12, 900 // tasks))
    # The corner of a cell has no digit: its colour is the share's.
    top, left = height - tasks * side - 1, width - tasks * side - 1
    corners = picture[top + 2 :: side, left + 2 :: side][:tasks, :tasks].astype(int)
    assert corners.shape == (tasks, tasks, 3)
    assert (corners[-1] == 205).all()
    brightness = corners.sum(-1)
    for task in range(tasks - 1):
        assert np.argsort(brightness[task])[::-1].tolist() == np.argsort(matrix[task]).tolist()
        assert brightness[task].max() == 765
        assert brightness[task].min() == 8 + 30 + 80
    # Every row and column has an index, no two of them alike.
    labels = [
        picture[: top - 1, left + task * side : left + (task + 1) * side].tobytes()
        for task in range(tasks)
    ]
    assert len(set(labels)) == tasks
    assert (
        len({picture[top + 1 + n * side :][: side - 1, : left - 1].tobytes() for n in range(tasks)})
        == tasks
    )


def test_what_is_below_zero_is_red_and_as_dark_as_above() -> None:
    picture = heat_map(np.array([[0.7, -0.7], [0.0, -0.1]])).astype(int)
    above, below, nothing, little = (
        picture[-130 + 64 * row + 3, -130 + 64 * column + 3]
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    assert above[2] > above[0]
    assert below[0] > below[2]
    assert nothing.tolist() == [255, 255, 255]
    assert below.sum() < little.sum() < 765
    assert little[0] > little[2]


def test_percentages_stand_in_cells_that_have_room() -> None:
    even = heat_map(np.full((2, 2), 0.5))
    none = heat_map(np.zeros((2, 2)))
    inside = (slice(-60, -4), slice(-60, -4))
    assert len(np.unique(even[inside].reshape(-1, 3), axis=0)) == 2
    assert len(np.unique(none[inside].reshape(-1, 3), axis=0)) == 1
    crowded = heat_map(np.full((50, 50), 0.02))
    assert len(np.unique(crowded[-17:-2, -17:-2].reshape(-1, 3), axis=0)) == 1
