"""Scores in a report: which tasks they are over, per task, and who beats whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reported_runs import evaluated, groups_in, reported_run, scales_of

from deploy.report import score_figures, score_tables
from deploy.report.runs import read
from deploy.report.scales import measures, remarks
from repertory.run_directory import RunDirectory


def small_study(root: Path, seeds: tuple[int, ...] = (1, 2)) -> None:
    """Write agents on tasks 0 and 1, fine-tuned to 8 and 9, and baselines from scratch.

    On task 8 and seed s the agent returns 2 s, tuned 8 + s, the baseline 10, random play 0; on
    task 9 all returns are ten times these.
    """
    held_out = ("counting/8", "counting/9")
    for seed in seeds:
        parent = reported_run(root, f"parent{seed}", seed=seed, recipe="a", held_out=held_out)
        evaluated(parent, {"counting/0": [5.0], "counting/1": [6.0]}, successes=[True])
        unseen = {"counting/8": [2.0 * seed], "counting/9": [20.0 * seed]}
        evaluated(parent, unseen, trained_on=False, successes=[False])
        for factor, task in ((1.0, held_out[0]), (10.0, held_out[1])):
            for reuse, value in (("all", 8.0 + seed), ("none", 10.0)):
                run = reported_run(
                    root,
                    f"{reuse}-{task[-1]}-{seed}",
                    seed=seed,
                    recipe="a",
                    tasks=[task],
                    initial={"parent": f"parent{seed}", "reuse": reuse},
                )
                evaluated(run, {task: [factor * value]}, successes=[True])
                evaluated(run, {task: [0.0]}, policy="random")


def test_scores_on_tasks_that_were_never_trained_on_have_no_part_in_those_that_were(
    tmp_path: Path,
) -> None:
    small_study(tmp_path)
    successes = [one for one in scales_of(groups_in(tmp_path)) if one.measure.name == "success"]
    found = {tuple(one.tasks): (one.scores, one.unseen) for one in successes}
    trained, unseen = ("counting/0", "counting/1"), ("counting/8", "counting/9")
    assert set(found) == {trained, unseen}
    # The groups: the agents, tuned, from scratch.
    scores, zero_shot = found[trained]
    assert zero_shot == frozenset()
    np.testing.assert_array_equal(scores[0], [[1, 1], [1, 1]])
    assert list(scores) == [0]
    scores, zero_shot = found[unseen]
    assert zero_shot == {0}
    np.testing.assert_array_equal(scores[0], [[0, 0], [0, 0]])
    np.testing.assert_array_equal(scores[1], [[1, 1], [1, 1]])
    assert list(scores) == [0, 1, 2]


def test_without_references_runs_from_scratch_are_the_reference(tmp_path: Path) -> None:
    small_study(tmp_path)
    groups = groups_in(tmp_path)
    (scale,) = (one for one in scales_of(groups) if one.measure.name == "scratch-normalised")
    np.testing.assert_allclose(scale.scores[0], [[0.2, 0.2], [0.4, 0.4]])
    np.testing.assert_allclose(scale.scores[1], [[0.9, 0.9], [1.0, 1.0]])
    table = score_tables.aggregates(scale, groups, np.random.default_rng(0))
    assert [name for name, _ in table.rows] == ["a, zero-shot", "a fine-tuned", "a from scratch"]
    # Named ones take their place.
    reference = read(tmp_path / "none-8-1")
    (scale,) = (one for one in scales_of(groups, [reference]) if one.measure.ranges)
    assert (scale.measure.name, scale.tasks) == ("reference-normalised", ["counting/8"])


def test_a_reference_that_is_no_better_than_random_play_is_no_scale_and_that_is_said(
    tmp_path: Path,
) -> None:
    """On task 9 fine-tuning is far the better, and on a scale turned round it would lose."""
    small_study(tmp_path)
    for seed in (1, 2):
        run = RunDirectory(tmp_path / f"none-9-{seed}")
        evaluated(run, {"counting/9": [1_000.0]}, policy="random")
    groups = groups_in(tmp_path)
    (scale,) = (one for one in scales_of(groups) if one.measure.ranges)
    assert list(scale.tasks) == ["counting/8"]
    (remark,) = remarks(groups, [], "greedy")
    assert remark.startswith(
        "Not scratch-normalised, because there the runs from scratch return no more than random "
        "play: counting/9."
    )


def test_runs_from_scratch_without_random_play_are_no_scale_and_that_is_said(
    tmp_path: Path,
) -> None:
    small_study(tmp_path)
    for path in tmp_path.glob("*-9-*/evaluations/*.json"):
        if '"random"' in path.read_text():
            path.unlink()
    (remark,) = remarks(groups_in(tmp_path), [], "greedy")
    assert remark.startswith(
        "Not scratch-normalised, because no run was evaluated with random play there: counting/9."
    )


def test_tasks_that_some_seeds_lack_are_in_no_score_and_that_is_said(tmp_path: Path) -> None:
    for seed, tasks in ((1, ("counting/0", "counting/1")), (2, ("counting/1",))):
        run = reported_run(tmp_path, f"run{seed}", seed=seed)
        evaluated(run, dict.fromkeys(tasks, (1.0,)), successes=[True])
    groups = groups_in(tmp_path)
    assert [list(scale.tasks) for scale in scales_of(groups)] == [["counting/1"]]
    assert remarks(groups, [], "greedy") == [
        "Scores of made-up leave out what fewer of its seeds were evaluated on (greedy) than its "
        "other tasks: counting/0."
    ]


@pytest.mark.parametrize(("seeds", "bands"), [((1, 2), 0), ((1, 2, 3), 1)])
def test_scores_of_two_seeds_have_no_interval_anywhere(
    tmp_path: Path, seeds: tuple[int, ...], bands: int
) -> None:
    for seed in seeds:
        for kind in ("a", "b"):
            rates = {"counting/0": 0.1 * seed, "counting/1": 0.2 * seed}
            rows = [
                {
                    "env_steps": step,
                    **{f"eval/greedy/task/{t}/success": rate for t, rate in rates.items()},
                }
                for step in (100, 200)
            ]
            run = reported_run(tmp_path, f"{kind}{seed}", seed=seed, recipe=kind, rows=rows)
            for task, rate in rates.items():
                won = [k < round(10 * rate) for k in range(10)]
                evaluated(run, {task: [1.0] * 10}, successes=won)
    groups = groups_in(tmp_path)
    (scale,) = scales_of(groups)
    generator = np.random.default_rng(0)
    table = score_tables.aggregates(scale, groups, generator)
    pairs = score_tables.improvements(scale, groups, generator)
    assert pairs is not None
    for text in (*(cell.text for cell in table.rows[0][1][1:]), pairs.rows[0][1][0].text):
        assert text.count("[") == bands
    course = score_figures.interquartile_means(scale, groups, "greedy", generator)
    assert course is not None
    for figure in (course, score_figures.profile(scale, generator)):
        assert figure.picture.count('class="band g0"') == bands
    assert "too narrow" in table.caption
    assert "resampled apart" in table.caption
    assert "too narrow" in pairs.caption


def test_that_the_ends_of_a_scale_are_uncertain_too_is_said_where_they_were_played(
    tmp_path: Path,
) -> None:
    small_study(tmp_path)
    groups = groups_in(tmp_path)
    for scale in scales_of(groups):
        caption = score_tables.aggregates(scale, groups, np.random.default_rng(0)).caption
        played = scale.measure.name == "scratch-normalised"
        assert ("its own spread is in no interval" in caption) == played


def test_normalised_scores_are_shown_per_task(tmp_path: Path) -> None:
    small_study(tmp_path, seeds=(1, 2, 3))
    groups = groups_in(tmp_path)
    *_, measure = measures(groups, [], "greedy")
    table = score_tables.per_task(measure, groups, "greedy")
    assert table is not None
    assert table.columns == ["task", "a, zero-shot", "a fine-tuned", "a from scratch"]
    # Standard deviation 0.2 or 0.1 over the root of three, times Student's t of two degrees.
    row = ["0.40 ± 0.50", "1.00 ± 0.25", "1"]
    assert [(name, [cell.text for cell in cells]) for name, cells in table.rows] == [
        ("counting/8", row),
        ("counting/9", row),
    ]
    success, *_ = measures(groups, [], "greedy")
    assert score_tables.per_task(success, groups, "greedy") is None


def test_every_pair_of_any_number_of_groups_is_compared(tmp_path: Path) -> None:
    # Group k succeeds in k of 7 episodes, with every seed on all tasks; the third has but three.
    for rate in range(1, 8):
        for seed in (1, 2, 3) if rate == 3 else (1, 2, 3, 4):
            run = reported_run(tmp_path, f"{rate}-{seed}", seed=seed, recipe=f"r{rate}")
            for task in ("counting/0", "counting/1"):
                evaluated(run, {task: [1.0] * 7}, successes=[k < rate for k in range(7)])
    groups = groups_in(tmp_path)
    (scale,) = scales_of(groups)
    table = score_tables.improvements(scale, groups, np.random.default_rng(0))
    assert table is not None
    assert table.columns == ["", *"1234567"]
    assert [name for name, _ in table.rows] == [f"{k} r{k}" for k in range(1, 8)]
    for row, (_, cells) in enumerate(table.rows):
        for column, cell in enumerate(cells):
            expected = "–" if row == column else "1.00" if row > column else "0.00"
            assert (cell.text, cell.best) == (expected, row != column and 2 not in (row, column))
    assert "intervals themselves are left out" in table.caption
    assert "from 4 seeds a side on" in table.caption


def test_a_chance_difference_is_not_bold_in_the_square(tmp_path: Path) -> None:
    for group in range(5):
        for seed in (1, 2, 3, 4):
            name = f"{group}-{seed}"
            run = reported_run(tmp_path, name, seed=seed, recipe=f"r{group}")
            rate = (group + seed) % 3
            evaluated(run, {"counting/0": [1.0] * 3}, successes=[k < rate for k in range(3)])
    groups = groups_in(tmp_path)
    (scale,) = scales_of(groups)
    table = score_tables.improvements(scale, groups, np.random.default_rng(0))
    assert table is not None
    assert not any(cell.best for _, cells in table.rows for cell in cells)


def test_interquartile_means_over_training_hold_zero_shot_scores_apart(tmp_path: Path) -> None:
    tasks, unseen = ("counting/0", "counting/1"), ("counting/8", "counting/9")
    rows = [
        {
            "env_steps": 100 * place,
            **{f"eval/greedy/task/{task}/success": 0.25 * place for task in tasks},
            **{f"eval/greedy/task/{task}/success": 0.1 * place for task in unseen},
        }
        for place in (1, 2, 3)
    ]
    run = reported_run(tmp_path, "run", tasks=tasks, rows=rows, held_out=unseen)
    evaluated(run, dict.fromkeys(tasks, (1.0,)), successes=[True])
    evaluated(run, dict.fromkeys(unseen, (1.0,)), successes=[True], trained_on=False)
    groups = groups_in(tmp_path)
    found = {}
    for scale in scales_of(groups):
        generator = np.random.default_rng(0)
        figure = score_figures.interquartile_means(scale, groups, "greedy", generator)
        assert figure is not None
        found[tuple(scale.tasks)] = [reading.text for reading in figure.readings]
    assert found == {tasks: ["0.75"], unseen: ["0.30"]}


def test_steps_of_pre_training_on_the_axis_of_fine_tuning_are_told_in_the_note(
    tmp_path: Path,
) -> None:
    task = "counting/8"
    rows = [
        {"env_steps": step, f"eval/greedy/task/{task}/success": 0.5} for step in (100, 200, 300)
    ]
    parent = reported_run(tmp_path, "parent", rows=rows, held_out=[task])
    evaluated(parent, {task: [1.0]}, successes=[True], trained_on=False)
    generator = np.random.default_rng(0)

    def note() -> str:
        groups = groups_in(tmp_path)
        (scale,) = scales_of(groups)
        figure = score_figures.interquartile_means(scale, groups, "greedy", generator)
        assert figure is not None
        return figure.note

    assert note() == "success score, greedy evaluation"
    initial = {"parent": "parent", "reuse": "all"}
    child = reported_run(tmp_path, "child", rows=rows, tasks=[task], initial=initial)
    evaluated(child, {task: [1.0]}, successes=[True])
    assert "zero-shot curves are over the steps of pre-training" in note()


@pytest.mark.parametrize(
    ("played", "said"),
    [
        ({}, "have no greedy evaluation"),
        ({"greedy": {"counting/0": [3.0]}}, "no run was evaluated with random play there: count"),
        (
            {"greedy": {"counting/0": [3.0]}, "random": {"counting/0": [3.0]}},
            "return no more than random play: counting/0",
        ),
        (
            {"greedy": {"counting/5": [3.0]}, "random": {"counting/5": [1.0]}},
            "No run of the report was evaluated on a task of the reference runs: counting/5",
        ),
        ({"greedy": {"counting/0": [3.0]}, "random": {"counting/0": [1.0]}}, ""),
    ],
)
def test_what_a_reference_lacks_is_said_though_another_scale_exists(
    command: Any, tmp_path: Path, played: dict[str, dict[str, list[float]]], said: str
) -> None:
    run = reported_run(tmp_path, "run")
    evaluated(run, {"counting/0": [1.0]}, successes=[True])
    reference = reported_run(tmp_path, "reference", recipe="other")
    for policy, scores in played.items():
        evaluated(reference, scores, policy=policy)
    found = remarks(groups_in(run.path.parent), [read(reference.path)], "greedy")
    outcome = command("report", "run", "--reference", "reference")
    assert outcome.code == 0
    page = (run.path / "report.html").read_text()
    assert "Success scores" in page
    if said:
        assert said in outcome.err
        assert said in page
    else:
        assert (found, outcome.err) == ([], "")
