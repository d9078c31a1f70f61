"""What a report draws: maps of tasks, charts of curves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reported_runs import TASKS, groups_in, reported_run

from deploy.report import page
from deploy.report.charts import COLOURS, MEDIUM, chart, style_of
from deploy.report.curves import curve_of
from deploy.report.maps import TaskMap, cosine_maps, draw, guide_maps, strongest_guides
from repertory.metrics.gradient_maps import GradientMap
from repertory.run_directory import RunDirectory


def test_guide_maps_add_seeds_up_in_thirds_of_training(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = reported_run(tmp_path, f"run{seed}", seed=seed)
        rows = [
            {
                "env_steps": end,
                "since_env_steps": end - 100,
                "candidates": list(TASKS),
                "steps": [[50, 0], [10 * seed, 40 - 10 * seed]],
            }
            for end in (100, 200, 300)
        ]
        run.guidance.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"env')
    maps = guide_maps(groups_in(tmp_path)[0])
    assert [one.caption for one in maps] == [
        "steps 0 to 100",
        "steps 100 to 200",
        "steps 200 to 300",
    ]
    np.testing.assert_allclose(maps[-1].values, [[1, 0], [30 / 80, 50 / 80]])
    assert strongest_guides(maps[-1]) == [("counting/1", "counting/0", 30 / 80)]


def gradient_map(since: int, end: int, cosine: float, overlap: float | None = None) -> GradientMap:
    matrices = [
        None if value is None else np.array([[1.0, value], [value, 1.0]])
        for value in (cosine, overlap)
    ]
    assert matrices[0] is not None
    return GradientMap(TASKS, "actor", since, {"env_steps": end}, 1, matrices[0], matrices[1])


def write_maps(run: RunDirectory, *maps: GradientMap) -> None:
    run.gradients.write_text("".join(json.dumps(one.row()) + "\n" for one in maps))


def test_cosine_maps_are_means_of_what_is_known(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run")
    write_maps(run, gradient_map(600, 700, -0.5), gradient_map(700, 900, np.nan, 0.25))
    (one,) = cosine_maps(groups_in(tmp_path)[0])["actor"]
    np.testing.assert_allclose(one.values, [[1, -0.5], [-0.5, 1]])
    (overlap,) = cosine_maps(groups_in(tmp_path)[0])["actor, overlap of what two tasks do not own"]
    np.testing.assert_allclose(overlap.values, [[1, 0.25], [0.25, 1]])
    assert guide_maps(groups_in(tmp_path)[0]) == []


def test_cosines_of_steps_that_were_played_again_are_left_out(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run")
    write_maps(
        run, gradient_map(0, 200, 0.25), gradient_map(200, 300, 1), gradient_map(200, 300, 0)
    )
    maps = cosine_maps(groups_in(tmp_path)[0])["actor"]
    assert [(one.caption, one.values[0, 1]) for one in maps] == [
        ("steps 100 to 200", 0.25),
        ("steps 200 to 300", 0.0),
    ]


@pytest.mark.parametrize("tasks", [1, 10, 50])
def test_a_map_of_any_size_has_every_cell_that_is_not_empty(tasks: int) -> None:
    names = [str(index) for index in range(tasks)]
    values = np.random.default_rng(0).uniform(-1, 1, (tasks, tasks))
    values[0, 0] = np.nan
    svg = draw(TaskMap("all", names, names, values), "a map")
    power = 1.0 if tasks <= 10 else 0.5
    shown = (np.round(np.abs(values) ** power * 20) > 0).sum() + 1
    # One more is the frame.
    assert svg.count("z") == shown + 1
    assert len(svg) < 120_000


def test_a_chart_holds_its_curves_and_reads_without_a_script() -> None:
    x = np.array([0.0, 50.0, 100.0])
    curve = curve_of(3, [(x, x), (x, x + 10), (x, x - 10)], 100)
    assert curve is not None
    svg = chart([curve], MEDIUM, 'a "label" <b>')
    assert svg.count('<path class="line g3"') == 1
    assert svg.count('<path class="seed g3"') == 3
    assert svg.count('<path class="band g3"') == 1
    assert "a &#34;label&#34; &lt;b&gt;" in svg
    for tick in (">0<", ">50<", ">100<"):
        assert tick in svg


def test_constant_and_single_values_are_drawn() -> None:
    flat = curve_of(0, [(np.array([1.0, 2.0]), np.array([3.0, 3.0]))], 100)
    single = curve_of(1, [(np.array([5.0]), np.array([-2.0]))], 100)
    assert flat is not None
    assert single is not None
    svg = chart([flat, single], MEDIUM, "both")
    assert "nan" not in svg
    assert "<circle" in svg


def test_groups_beyond_the_colours_have_strokes_of_their_own() -> None:
    styles = [style_of(group) for group in range(4 * COLOURS)]
    assert len(set(styles)) == len(styles)
    assert styles[COLOURS - 1 : COLOURS + 1] == ["g7", "g0 s1"]
    css = (Path(page.__file__).parent / "assets" / "page.css").read_text()
    for stroke in range(1, 4):
        for mark in (".line", ".swatch"):
            assert f"{mark}.s{stroke} {{" in css
    x = np.array([0.0, 1.0])
    ninth = curve_of(COLOURS, [(x, x)], 10)
    assert ninth is not None
    assert '<path class="line g0 s1"' in chart([ninth], MEDIUM, "ninth")


def test_the_legend_has_the_strokes_of_groups_beyond_the_colours(tmp_path: Path) -> None:
    for index in range(COLOURS + 1):
        reported_run(tmp_path, f"run{index}", recipe=f"r{index}")
    text = page.render(groups_in(tmp_path), [], tmp_path / "report.html")
    legend = text.partition('class="legend"')[2].partition("</nav>")[0]
    assert '<i class="swatch g0"></i>r0<' in legend
    assert '<i class="swatch g0 s1"></i>r8<' in legend
