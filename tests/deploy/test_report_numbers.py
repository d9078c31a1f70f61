"""What a report reads and computes: series of bounded length, groups, curves, tables, scales."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from reported_runs import TASKS, evaluated, groups_in, made_up_rows, reported_run

from deploy import schema
from deploy.overrides import resolve, scan
from deploy.report import comparisons, figures, repeating, tables
from deploy.report.charts import MEDIUM, chart
from deploy.report.curves import curve_of, mean_over, metric, of_groups
from deploy.report.maps import TaskMap, cosine_maps, draw, guide_maps, strongest_guides
from deploy.report.numbers import compact, with_interval
from deploy.report.runs import find, read
from deploy.report.series import LIMIT, QUEUE_FILL, Series, read_metrics
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.recipes import get
from repertory.run_directory import RunDirectory


def test_a_short_series_is_kept_as_it_is() -> None:
    series = Series()
    for x in range(LIMIT):
        series.add(float(x), float(x**2))
    x, y = series.points()
    np.testing.assert_array_equal(x, np.arange(LIMIT))
    np.testing.assert_array_equal(y, np.arange(LIMIT) ** 2)


@pytest.mark.parametrize("count", [2 * LIMIT, 2 * LIMIT + 1, 10_007, 50_000])
def test_a_long_series_is_thinned_to_means_that_keep_its_mean_and_its_last_value(
    count: int,
) -> None:
    values = np.random.default_rng(0).normal(size=count)
    series = Series()
    for x, y in enumerate(values):
        series.add(float(x), float(y))
    x, y = series.points()
    assert LIMIT <= len(x) <= 2 * LIMIT
    assert (np.diff(x) > 0).all()
    stride = 2 ** math.floor(math.log2(count / LIMIT))
    whole = count // stride * stride
    twin = values[:whole].reshape(-1, stride).mean(axis=1)
    np.testing.assert_allclose(y[: len(twin)], twin)
    assert series.last == values[-1]


def test_an_evaluation_that_comes_late_is_put_in_its_place_and_a_second_one_replaces_it() -> None:
    series = Series()
    for x, y in ((100.0, 1.0), (300.0, 3.0), (200.0, 2.0), (300.0, 4.0)):
        series.add(x, y)
    assert [list(part) for part in series.points()] == [[100, 200, 300], [1, 2, 4]]
    assert series.last == 4.0


def test_steps_that_a_resumed_run_plays_again_are_counted_once(tmp_path: Path) -> None:
    rows = made_up_rows(1)
    again = [
        {**row, "env_steps": row["env_steps"] - 50, "task/counting/0/return": 77.0}
        for row in rows[5:]
    ]
    run = reported_run(tmp_path, "resumed", rows=[*rows[:8], *again])
    x, y = read_metrics(run.metrics).series["task/counting/0/return"].points()
    assert x.tolist() == [100, 200, 300, 400, 500, 550, 650, 750, 850, 950]
    assert y.tolist() == [2, 3, 4, 5, 6, *[77] * 5]


def test_damaged_and_torn_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "torn")
    whole = run.metrics.read_text()
    run.metrics.write_text("[1, 2]\n\x00\x00\n" + whole + '{"env_steps": 1100, "task/coun')
    metrics = read_metrics(run.metrics)
    assert metrics.torn == 3
    assert metrics.rows == 10
    assert metrics.env_steps == 1_000


def test_numbers_that_are_none_make_no_point(tmp_path: Path) -> None:
    rows = [
        {"env_steps": 10, "lag/mean": float("nan"), "actor/steps_per_s": 1.0},
        {"env_steps": 20, "lag/mean": "many", "actor/steps_per_s": float("inf")},
        {"env_steps": "x", "actor/steps_per_s": 5.0},
    ]
    metrics = read_metrics(reported_run(tmp_path, "odd", rows=rows).metrics)
    assert "lag/mean" not in metrics.series
    assert metrics.series["actor/steps_per_s"].points()[1].tolist() == [1.0]


def test_queues_are_shown_as_their_mean_over_tasks(tmp_path: Path) -> None:
    metrics = read_metrics(reported_run(tmp_path, "run").metrics)
    assert metrics.series[QUEUE_FILL].last == 1.0


def test_runs_are_grouped_by_everything_but_the_seed(tmp_path: Path) -> None:
    for seed in (3, 1, 2):
        reported_run(tmp_path, f"a{seed}", seed=seed)
    faster = {"optimiser": {"learning_rate": 0.5}}
    reported_run(tmp_path, "b", seed=1, **faster)
    first, second = groups_in(tmp_path)
    assert [run.seed for run in first.runs] == [1, 2, 3]
    assert [run.name for run in second.runs] == ["b"]
    assert second.label == "made-up, learning_rate 0.5"
    assert first.label.startswith("made-up, learning_rate 0.")


def test_runs_are_found_in_directories_that_hold_them_and_each_one_once(tmp_path: Path) -> None:
    for name in ("b", "a"):
        reported_run(tmp_path, name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "config.json").write_text("{}")
    found = find([tmp_path / "b", tmp_path, tmp_path / "a"])
    assert [path.name for path in found] == ["b", "a"]
    with pytest.raises(BadInput, match="neither a run directory"):
        find([tmp_path / "empty"])
    with pytest.raises(BadInput, match="there is no run directory"):
        find([tmp_path / "c"])


def test_a_curve_is_the_mean_of_its_seeds_where_all_of_them_have_come(tmp_path: Path) -> None:
    for seed in (1, 2, 6):
        rows = made_up_rows(seed)
        reported_run(tmp_path, f"run{seed}", seed=seed, rows=rows[:6] if seed == 6 else rows)
    (curve,) = of_groups(groups_in(tmp_path), metric("task/counting/0/return"), 100)
    assert curve.x.tolist() == [100, 200, 300, 400, 500, 600]
    np.testing.assert_allclose(curve.middle, 3 + curve.x / 100)
    # Standard deviation of 1, 2, 6 over the root of three, times Student's t of two degrees.
    np.testing.assert_allclose(curve.high - curve.middle, np.sqrt(7 / 3) * 4.302653, rtol=1e-6)
    np.testing.assert_allclose(curve.middle - curve.low, curve.high - curve.middle)
    assert curve.last[0] == pytest.approx((1 + 10 + 2 + 10 + 6 + 6) / 3)


def test_two_seeds_have_no_interval() -> None:
    x = np.array([0.0, 1.0])
    curve = curve_of(0, [(x, x), (x, x + 1)], 10)
    assert curve is not None
    assert np.isnan([curve.low, curve.high]).all()
    assert curve.last[0] == 1.5
    assert np.isnan(curve.last[1])


def test_a_curve_of_many_points_is_thinned_and_still_ends_in_the_last_value() -> None:
    x = np.arange(1000.0)
    curve = curve_of(0, [(x, x**2)], 50)
    assert curve is not None
    assert len(curve.x) == 50
    assert curve.middle[-1] == 999.0**2
    assert np.isnan([curve.low, curve.high]).all()


def test_the_mean_over_tasks_begins_when_all_have_begun(tmp_path: Path) -> None:
    rows = made_up_rows(1)
    for row in rows[:3]:
        del row["task/counting/1/return"]
    reported_run(tmp_path, "run", rows=rows)
    (run,) = groups_in(tmp_path)[0].runs
    found = mean_over(run, [f"task/{task}/return" for task in TASKS])
    assert found is not None
    assert found[0].tolist() == list(range(400, 1_001, 100))
    np.testing.assert_allclose(found[1], 1.5 + found[0] / 100)
    assert mean_over(run, ["task/counting/0/return", "task/other/return"]) is None


def test_the_newest_evaluation_of_each_task_counts_and_damaged_files_are_left_out(
    tmp_path: Path,
) -> None:
    run = reported_run(tmp_path, "run")
    evaluated(run, {"counting/0": [1.0], "counting/1": [5.0]}, step=500)
    evaluated(run, {"counting/0": [2.0, 4.0]}, step=1_000)
    (run.evaluations / "step_000000002000-x.json").write_text('{"env_steps": 2000, "sco')
    (run.evaluations / "step_000000003000-x.json").write_text('{"env_steps": 1, "scores": [{}]}')
    read_back = {one.task: one.mean for one in read(run.path).evaluations}
    assert read_back == {"counting/0": 3.0, "counting/1": 5.0}


def test_tables_hold_means_over_seeds_and_mark_the_best(tmp_path: Path) -> None:
    for seed, value in ((1, 10.0), (2, 12.0), (3, 14.0)):
        evaluated(reported_run(tmp_path, f"a{seed}", seed=seed), {"counting/0": [value]})
        b = reported_run(tmp_path, f"b{seed}", seed=seed, optimiser={"learning_rate": 0.5})
        evaluated(b, {"counting/0": [value - 5], "counting/9": [7.0]}, trained_on=True)
        evaluated(b, {"counting/0": [1.0, 2.0]}, policy="random")
    table = tables.evaluation(groups_in(tmp_path), ["counting/0"], "greedy", trained=True)
    assert table is not None
    ((name, cells),) = table.rows
    assert name == "counting/0"
    # Standard deviation 2 over the root of three, times Student's t of two degrees.
    assert [cell.text for cell in cells] == ["12.00 ± 4.97", "7.00 ± 4.97", "1.50"]
    assert [cell.best for cell in cells] == [True, False, False]


def test_unseen_tasks_have_a_table_of_their_own(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run", held_out=["counting/7"])
    evaluated(run, {"counting/0": [1.0]})
    evaluated(run, {"counting/7": [9.0]}, trained_on=False)
    groups = groups_in(tmp_path)
    names = ["counting/0", "counting/7"]
    seen = tables.evaluation(groups, names, "greedy", trained=True)
    unseen = tables.evaluation(groups, names, "greedy", trained=False)
    assert seen is not None
    assert unseen is not None
    assert [name for name, _ in seen.rows] == ["counting/0"]
    assert [(name, cells[0].text) for name, cells in unseen.rows] == [("counting/7", "9")]


def test_scores_are_normalised_by_random_play_and_a_reference_of_ones_own(tmp_path: Path) -> None:
    for seed, value in ((1, 10.0), (2, 20.0)):
        run = reported_run(tmp_path / "runs", f"run{seed}", seed=seed)
        evaluated(run, {"counting/0": [value], "counting/1": [value]})
    evaluated(run, {"counting/0": [0.0], "counting/1": [5.0]}, policy="random")
    reference = reported_run(tmp_path, "reference", recipe="other")
    evaluated(reference, {"counting/0": [40.0], "counting/1": [25.0]})
    groups = groups_in(tmp_path / "runs")
    (scale,) = comparisons.scales(groups, [read(reference.path)], "greedy")
    assert scale.name == "reference-normalised"
    np.testing.assert_allclose(scale.scores[0], [[0.25, 0.25], [0.5, 0.75]])
    table = tables.aggregates(scale, groups, np.random.default_rng(0))
    assert table.rows[0][1][1].text.startswith("0.38 [")


def test_default_atari_variants_are_normalised_by_a_human(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run", tasks=["atari/breakout/m0d0"])
    evaluated(run, {"atari/breakout/m0d0": [16.1], "atari/breakout/m4d0": [3.0]})
    (scale,) = comparisons.scales(groups_in(tmp_path), [], "greedy")
    assert (scale.name, scale.tasks) == ("human-normalised", ["atari/breakout/m0d0"])
    np.testing.assert_allclose(scale.scores[0], [[0.5]])


def test_groups_are_scored_on_the_tasks_that_they_share(tmp_path: Path) -> None:
    successes = {"successes": [True, False]}
    a = reported_run(tmp_path, "a", recipe="a")
    evaluated(a, {"x/1": [1.0, 1.0], "x/2": [1.0, 1.0]}, **successes)
    b = reported_run(tmp_path, "b", recipe="b")
    evaluated(b, {"x/2": [1.0, 1.0], "x/3": [1.0, 1.0]}, **successes)
    c = reported_run(tmp_path, "c", recipe="c")
    evaluated(c, {"y/1": [1.0, 1.0]}, **successes)
    found = comparisons.scales(groups_in(tmp_path), [], "greedy")
    assert [(scale.tasks, sorted(scale.scores)) for scale in found] == [
        (["x/2"], [0, 1]),
        (["y/1"], [2]),
    ]


def test_a_task_that_only_some_runs_have_played_costs_no_other_run_its_score(
    tmp_path: Path,
) -> None:
    for seed in (1, 2):
        evaluated(reported_run(tmp_path, f"a{seed}", seed=seed), {"x/1": [1.0]}, successes=[True])
    evaluated(reported_run(tmp_path, "a3", seed=3), {"x/1": [1.0], "x/2": [1.0]}, successes=[False])
    (scale,) = comparisons.scales(groups_in(tmp_path), [], "greedy")
    assert scale.tasks == ["x/1"]
    np.testing.assert_allclose(scale.scores[0], [[1], [1], [0]])


def test_differences_of_protocol_are_named_with_who_has_what(tmp_path: Path) -> None:
    reported_run(tmp_path, "a", recipe="a")
    reported_run(tmp_path, "b", recipe="b", evaluation={"episodes": 3})
    reported_run(
        tmp_path, "c", recipe="c", protocol={"environment": {"suite": "counting", "sticky": 0.25}}
    )
    reported_run(tmp_path, "d", recipe="d", protocol={"versions": {"python": "3.12.0"}})
    serious, versions = comparisons.differences(groups_in(tmp_path))
    named = {difference.name: dict(difference.values) for difference in serious}
    assert named["environment.sticky"] == {"not set": ["a", "b", "d"], "0.25": ["c"]}
    assert named["evaluation.episodes"]["3"] == ["b"]
    assert "python" in {difference.name for difference in versions}


def test_runs_of_one_protocol_have_no_differences(tmp_path: Path) -> None:
    for seed in (1, 2):
        reported_run(tmp_path, f"run{seed}", seed=seed)
    assert comparisons.differences(groups_in(tmp_path)) == ([], [])


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


def test_cosine_maps_are_means_of_what_is_known(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run")
    rows = [
        {"env_steps": 900, "network": "actor", "cosine": [[1, -0.5], [-0.5, 1]]},
        {
            "env_steps": 900,
            "network": "actor",
            "cosine": [[1, None], [None, 1]],
            "overlap": [[1, 0.25], [0.25, 1]],
        },
    ]
    (run.path / "gradients.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (one,) = cosine_maps(groups_in(tmp_path)[0])["actor"]
    np.testing.assert_allclose(one.values, [[1, -0.5], [-0.5, 1]])
    (overlap,) = cosine_maps(groups_in(tmp_path)[0])["actor, overlap of what two tasks do not own"]
    np.testing.assert_allclose(overlap.values, [[1, 0.25], [0.25, 1]])
    assert guide_maps(groups_in(tmp_path)[0]) == []


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


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5e6, "1.5M"), (999.0, "999"), (0.25, "0.25"), (-3.0, "−3"), (float("nan"), "–")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [(5183.2, 1069.9, "5,183 ± 1,070"), (64.0, 0.0, "64"), (0.5, float("nan"), "0.50")],
)
def test_a_number_and_its_interval_have_the_same_digits(
    value: float, half_width: float, text: str
) -> None:
    assert with_interval(value, half_width) == text


def test_the_interquartile_mean_over_training_is_that_of_each_evaluation(tmp_path: Path) -> None:
    names = [f"counting/{index}" for index in range(4)]
    scores = np.random.default_rng(5).uniform(0, 1, (3, 4, 6)).round(2)
    for seed in range(3):
        rows = [
            {
                "env_steps": 100 * (time + 1),
                **{
                    f"eval/greedy/task/{name}/success": scores[seed, task, time]
                    for task, name in enumerate(names)
                },
            }
            for time in range(6)
        ]
        run = reported_run(tmp_path, f"run{seed}", seed=seed, tasks=names, rows=rows)
        evaluated(run, dict.fromkeys(names, (1.0,)), successes=[True])
    groups = groups_in(tmp_path)
    (scale,) = comparisons.scales(groups, [], "greedy")
    figure = figures.interquartile_means(scale, groups, "greedy", np.random.default_rng(0))
    assert figure is not None
    last = np.sort(scores[:, :, -1], axis=None)[3:-3].mean()
    assert [reading.text for reading in figure.readings] == [f"{last:.2f}"]
    assert figure.picture.count('class="band g0"') == 1


def test_the_command_to_repeat_a_run_builds_the_same_settings(tmp_path: Path) -> None:
    recipe = get("quickstart").config
    config = recipe.model_copy(
        update={
            "seed": 7,
            "held_out": (),
            "total_steps": 123,
            "optimiser": recipe.optimiser.model_copy(update={"learning_rate": 0.25}),
        }
    )
    run = RunDirectory.create(tmp_path, "quickstart", "run")
    run.write_config(config, {"tasks": [], "held_out": []})
    words = shlex.split(repeating.command(read(run.path)))
    assert words[:3] == ["repertory", "train", "quickstart"]
    texts, rest = scan(words[3:], schema.settings_of(RunConfig))
    assert rest == []
    assert resolve(recipe, [], texts) == config


def test_a_fine_tuned_run_is_repeated_from_its_parent(tmp_path: Path) -> None:
    parent = reported_run(tmp_path / "my runs", "parent")
    for name, reuse, words in (
        ("a", "reset-heads", "--reuse reset-heads"),
        ("b", "none", "--from-scratch"),
    ):
        child = reported_run(
            tmp_path,
            name,
            seed=3,
            tasks=["counting/8"],
            initial={"parent": str(parent.path), "reuse": reuse},
            optimiser={"learning_rate": 0.5},
        )
        told = repeating.command(read(child.path))
        assert told == (
            f"repertory finetune '{parent.path}' --task counting/8 {words} --seed 3 "
            "--optimiser.learning_rate 0.5"
        )
    gone = reported_run(tmp_path, "c", initial={"parent": "/gone", "reuse": "all"})
    assert "# /gone is not here" in repeating.command(read(gone.path))
