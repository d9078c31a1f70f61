"""Cosines between tasks' gradients are recorded as means over parts of a run, and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from repertory.metrics.gradient_maps import (
    MAPS,
    WHOLE,
    CosineSums,
    GradientMap,
    GradientMaps,
    read_maps,
)
from repertory.metrics.jsonl import JsonlSink, to_json_line

TASKS = ("reach", "push", "open")


def axes(step: int) -> dict[str, float | int]:
    return {"env_steps": step, "frames": step, "updates": step // 2, "wall_s": step / 100}


def drawn(seed: int) -> Float64[np.ndarray, "M M"]:
    """Return a measurement, in which the last task now and then has no gradient."""
    cosine = np.random.default_rng(seed).uniform(-1.0, 1.0, (3, 3))
    if seed % 2:
        cosine[2] = cosine[:, 2] = np.nan
    return cosine


def sums(network: str, *measured: Float64[np.ndarray, "M M"]) -> CosineSums:
    stack = np.stack(measured)
    counts = np.isfinite(stack).sum(0).astype(np.int64)
    return CosineSums(network, np.nansum(stack, 0), counts, np.full((3, 3), float(len(measured))))


def test_a_map_is_the_mean_of_its_part_of_the_run_for_each_network() -> None:
    kept = GradientMaps(TASKS, 1000)
    found = []
    for step in range(1, 14):
        found += kept.add(
            [sums("actor", drawn(step)), sums("critic", drawn(step + 100))], axes(step)
        )
    assert [(one.network, one.since, one.axes["env_steps"]) for one in found] == [
        ("actor", 0, 5),
        ("critic", 0, 5),
        ("actor", 5, 10),
        ("critic", 5, 10),
    ]
    np.testing.assert_allclose(found[2].cosine, np.nanmean([drawn(s) for s in range(6, 11)], 0))
    np.testing.assert_allclose(
        found[1].cosine, np.nanmean([drawn(s + 100) for s in range(1, 6)], 0)
    )
    assert found[0].measurements == 5
    rest = kept.rest()
    assert [(one.network, one.since, one.measurements) for one in rest] == [
        ("actor", 10, 3),
        ("critic", 10, 3),
    ]
    assert kept.rest() == []


def test_rows_without_a_measurement_make_no_map_and_long_runs_no_more_than_their_number() -> None:
    kept = GradientMaps(TASKS, 10_000)
    found = []
    for step in range(1, 10_001):
        measured = [sums(WHOLE, drawn(step))] if step % 7 == 0 else []
        found += kept.add(measured, axes(step))
    assert MAPS - 10 <= len(found) <= MAPS
    ends = [one.axes["env_steps"] for one in found]
    assert [one.since for one in found] == [0, *ends[:-1]]
    rare = GradientMaps(TASKS, 100)
    assert [rare.add([], axes(step)) for step in range(50)] == [[]] * 50


def test_maps_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    cosine = drawn(3)
    made = [
        GradientMap(TASKS, "critic", 5, axes(10), 4, cosine, np.eye(3)),
        GradientMap(TASKS, WHOLE, 10, axes(20), 1, drawn(2), None),
    ]
    sink = JsonlSink(tmp_path / "gradients.jsonl")
    for one in made:
        sink.append(to_json_line(one.row()))
    sink.close()
    assert json.loads(sink.path.read_text().splitlines()[0])["cosine"][2] == [None] * 3
    for one, original in zip(read_maps(sink.path), made, strict=True):
        assert (one.tasks, one.network, one.since) == (TASKS, original.network, original.since)
        assert (one.axes, one.measurements) == (original.axes, original.measurements)
        np.testing.assert_allclose(one.cosine, original.cosine, atol=5e-5)
    assert read_maps(sink.path)[1].overlap is None
    assert read_maps(tmp_path / "none.jsonl") == []


def test_maps_of_steps_that_a_run_went_back_from_are_left_out(tmp_path: Path) -> None:
    spans = [(0, 10), (10, 20), (20, 30), (14, 24), (24, 34)]
    sink = JsonlSink(tmp_path / "gradients.jsonl")
    for since, end in spans:
        for network in ("actor", "critic"):
            made = GradientMap(TASKS, network, since, axes(end), 4, drawn(since), None)
            sink.append(to_json_line(made.row()))
    sink.close()
    found = [(one.network, one.since, one.axes["env_steps"]) for one in read_maps(sink.path)]
    kept = [(0, 10), (14, 24), (24, 34)]
    assert found == [(network, *span) for span in kept for network in ("actor", "critic")]


def test_a_cosine_never_measured_is_unknown_and_the_newest_overlap_counts() -> None:
    never = sums("actor", drawn(1), drawn(3))
    assert np.isnan(never.mean()[2]).all()
    together = never + sums("actor", drawn(2))
    np.testing.assert_allclose(together.mean(), np.nanmean([drawn(s) for s in (1, 2, 3)], 0))
    assert together.overlap is not None
    assert (together.overlap == 1.0).all()
