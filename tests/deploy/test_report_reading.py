"""What a report reads: series of bounded length, groups of runs, curves over seeds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from reported_runs import TASKS, groups_in, made_up_rows, reported_run

from deploy.report.charts import SPARK
from deploy.report.curves import curve_of, mean_over, metric, of_groups
from deploy.report.figures import figure
from deploy.report.runs import find
from deploy.report.series import LIMIT, QUEUE_FILL, Series, read_metrics
from repertory.errors import BadInput


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
    # At the line's end, where seeds 1 and 2 had not yet come to their last values.
    assert curve.last[0] == pytest.approx((1 + 6 + 2 + 6 + 6 + 6) / 3)
    assert curve.last[1] == pytest.approx(np.sqrt(7 / 3) * 4.302653)


def test_two_seeds_have_no_interval() -> None:
    x = np.array([0.0, 1.0])
    curve = curve_of(0, [(x, x), (x, x + 1)], 10)
    assert curve is not None
    assert np.isnan([curve.low, curve.high]).all()
    assert curve.last[0] == 1.5
    assert np.isnan(curve.last[1])


def test_seeds_that_have_no_step_in_common_have_no_last_value() -> None:
    x = np.array([0.0, 1.0])
    curve = curve_of(0, [(x, x), (x + 5, x)], 10)
    assert curve is not None
    assert np.isnan(curve.last).all()
    shown = figure("a", "a", "", [curve], SPARK, percent=True)
    assert [reading.text for reading in shown.readings] == ["–"]


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


def test_fine_tuned_runs_of_one_agent_are_one_group_whatever_their_tasks(tmp_path: Path) -> None:
    parents = {"few": ("counting/0",), "many": ("counting/0", "counting/1")}
    for seed, (parent, known) in enumerate(parents.items(), 1):
        for task in (7, 8):
            for reuse, kind in (("all", "finetune"), ("none", "scratch")):
                reported_run(
                    tmp_path,
                    f"{parent}-{kind}-{task}",
                    seed=seed,
                    recipe=f"a-{kind}-{task}",
                    tasks=[f"counting/{task}"],
                    initial={"parent": parent, "reuse": reuse, "parent_tasks": known},
                )
    found = {group.label: [run.name for run in group.runs] for group in groups_in(tmp_path)}
    assert found == {
        "a from scratch": [
            "few-scratch-7",
            "few-scratch-8",
            "many-scratch-7",
            "many-scratch-8",
        ],
        "a fine-tuned, pre-trained on 1 task": ["few-finetune-7", "few-finetune-8"],
        "a fine-tuned, pre-trained on 2 tasks": ["many-finetune-7", "many-finetune-8"],
    }
