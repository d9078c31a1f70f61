"""What a report says: tables, scales, differences, and the commands that repeat runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reported_runs import evaluated, groups_in, reported_run, scales_of

from deploy.report import comparisons, score_figures, score_tables, tables
from deploy.report.curves import by_seed
from deploy.report.numbers import compact, with_interval
from deploy.report.runs import read


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
    table = tables.evaluation(groups_in(tmp_path), ["counting/0"], "greedy", history="trained")
    assert table is not None
    ((name, cells),) = table.rows
    assert name == "counting/0"
    # Standard deviation 2 over the root of three, times Student's t of two degrees.
    assert [cell.text for cell in cells] == ["12.00 ± 4.97", "7.00 ± 4.97", "1.50"]
    assert [cell.best for cell in cells] == [True, False, False]


def test_the_latest_random_play_counts_whatever_step_it_is_filed_under(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run")
    evaluated(run, {"counting/0": [1.0]}, policy="random", step=1_000)
    evaluated(run, {"counting/0": [5.0]}, step=1_000)
    evaluated(run, {"counting/0": [2.0]}, policy="random", step=0)
    # Of weights those of the most steps count, however late others are evaluated.
    evaluated(run, {"counting/0": [4.0]}, step=500)
    found = {one.policy: one.mean for one in read(run.path).evaluations}
    assert found == {"random": 2.0, "greedy": 5.0}


def test_unseen_tasks_have_a_table_of_their_own(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run", held_out=["counting/7"])
    evaluated(run, {"counting/0": [1.0]})
    evaluated(run, {"counting/7": [9.0]}, trained_on=False)
    groups = groups_in(tmp_path)
    names = ["counting/0", "counting/7"]
    seen = tables.evaluation(groups, names, "greedy", history="trained")
    unseen = tables.evaluation(groups, names, "greedy", history="never")
    assert seen is not None
    assert unseen is not None
    assert [name for name, _ in seen.rows] == ["counting/0"]
    assert [(name, cells[0].text) for name, cells in unseen.rows] == [("counting/7", "9")]


def test_scores_are_normalised_by_random_play_and_a_reference_of_ones_own(tmp_path: Path) -> None:
    for seed, value in ((1, 10.0), (2, 20.0), (3, 15.0)):
        run = reported_run(tmp_path / "runs", f"run{seed}", seed=seed)
        evaluated(run, {"counting/0": [value], "counting/1": [value]})
    evaluated(run, {"counting/0": [0.0], "counting/1": [5.0]}, policy="random")
    reference = reported_run(tmp_path, "reference", recipe="other")
    evaluated(reference, {"counting/0": [40.0], "counting/1": [25.0]})
    groups = groups_in(tmp_path / "runs")
    (scale,) = scales_of(groups, [read(reference.path)])
    assert scale.measure.name == "reference-normalised"
    np.testing.assert_allclose(scale.scores[0], [[0.25, 0.25], [0.5, 0.75], [0.375, 0.5]])
    table = score_tables.aggregates(scale, groups, np.random.default_rng(0))
    # Sorted: .25 .25 .375 .5 .5 .75, of which a quarter of six, one, is left out at each end.
    assert table.rows[0][1][1].text.startswith("0.41 [")


def test_default_atari_variants_are_normalised_by_a_human(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "run", tasks=["atari/breakout/m0d0"])
    evaluated(run, {"atari/breakout/m0d0": [16.1], "atari/breakout/m4d0": [3.0]})
    (scale,) = scales_of(groups_in(tmp_path))
    assert (scale.measure.name, scale.tasks) == ("human-normalised", ["atari/breakout/m0d0"])
    np.testing.assert_allclose(scale.scores[0], [[0.5]])


def test_groups_are_scored_on_the_tasks_that_they_share(tmp_path: Path) -> None:
    successes = {"successes": [True, False]}
    a = reported_run(tmp_path, "a", recipe="a")
    evaluated(a, {"x/1": [1.0, 1.0], "x/2": [1.0, 1.0]}, **successes)
    b = reported_run(tmp_path, "b", recipe="b")
    evaluated(b, {"x/2": [1.0, 1.0], "x/3": [1.0, 1.0]}, **successes)
    c = reported_run(tmp_path, "c", recipe="c")
    evaluated(c, {"y/1": [1.0, 1.0]}, **successes)
    found = scales_of(groups_in(tmp_path))
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
    (scale,) = scales_of(groups_in(tmp_path))
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


def test_action_sets_are_compared_by_what_agents_had_and_not_by_the_word(tmp_path: Path) -> None:
    pong, breakout = "atari/pong/m0d0", "atari/breakout/m0d0"

    def one(name: str, tasks: list[str], full: bool | str) -> None:
        environment = {"suite": "atari", "full_action_space": full}
        played = {"environment": environment, "tasks": tasks}
        reported_run(tmp_path, name, recipe=name, protocol=played)

    def differences() -> dict[str, dict[str, list[str]]]:
        serious, _ = comparisons.differences(groups_in(tmp_path))
        return {d.name: {v: list(who) for v, who in d.values} for d in serious}

    # A run's own word, and what fine-tuning makes of it for child and baseline.
    one("parent", [pong], "auto")
    one("child", [pong], False)
    assert differences() == {}
    # Of several games `auto` is all 18, as a child of such a run says.
    one("several", [pong, breakout], "auto")
    one("several-child", [pong], True)
    assert differences()["environment.full_action_space"] == {
        "False": ["child", "parent"],
        "True": ["several", "several-child"],
    }
    # A game that the emulator does not have: then the word is all there is.
    one("unknown", ["atari/pnog/m0d0"], "auto")
    assert differences()["environment.full_action_space"]["auto"] == ["unknown"]


def test_the_value_that_most_of_many_groups_have_is_that_of_all_others(tmp_path: Path) -> None:
    for name in "abcd":
        reported_run(tmp_path, name, recipe=name)
    odd = {"environment": {"suite": "counting", "sticky": 0.25}, "commit": None}
    reported_run(tmp_path, "e", recipe="e", protocol=odd)
    serious, _ = comparisons.differences(groups_in(tmp_path))
    named = {one.name: list(one.values) for one in serious}
    assert named["environment.sticky"] == [("0.25", ["e"]), ("not set", ["all others"])]


def test_what_was_played_is_compared_and_not_what_a_run_was_set_to_play(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run = reported_run(tmp_path, name, recipe=name)
        evaluated(run, {"counting/0": [1.0] * 5})
        # The floor may be of any number of episodes.
        evaluated(run, {"counting/0": [1.0] * 9}, policy="random", seed=1)
    assert comparisons.differences(groups_in(tmp_path)) == ([], [])
    evaluated(run, {"counting/1": [1.0] * 100}, seed=9)
    serious, _ = comparisons.differences(groups_in(tmp_path))
    assert {one.name: dict(one.values) for one in serious} == {
        "evaluation.episodes": {"5": ["a", "b"], "5 and 100": ["c"]},
        "evaluation.seed": {"12345": ["a", "b"], "9 and 12345": ["c"]},
    }


def test_fine_tuned_runs_differ_from_their_parents_in_their_tasks_alone(tmp_path: Path) -> None:
    reported_run(tmp_path, "a", recipe="a", held_out=["counting/8"])
    child = {"parent": "a", "reuse": "all"}
    reported_run(tmp_path, "b", recipe="a", tasks=["counting/8"], initial=child)
    serious, _ = comparisons.differences(groups_in(tmp_path))
    assert [one.name for one in serious] == ["tasks"]
    # Those who both hold out are still compared.
    reported_run(tmp_path, "c", recipe="c", held_out=["counting/9"])
    serious, _ = comparisons.differences(groups_in(tmp_path))
    named = {one.name: dict(one.values) for one in serious}
    assert named["held out"] == {"counting/8": ["a"], "counting/9": ["c"]}


def test_references_are_held_to_the_same_protocol_but_for_their_tasks(tmp_path: Path) -> None:
    reported_run(tmp_path / "runs", "a")
    sticky = {"environment": {"suite": "counting", "sticky": 0.25}}
    reference = reported_run(tmp_path, "other", tasks=["counting/5"], protocol=sticky)
    groups = groups_in(tmp_path / "runs")
    assert comparisons.differences(groups) == ([], [])
    serious, versions = comparisons.differences(groups, [read(reference.path)])
    named = {one.name: dict(one.values) for one in serious}
    assert named["environment.sticky"] == {"not set": ["made-up"], "0.25": ["reference other"]}
    assert not {"tasks", "held out"} & set(named)
    assert versions == []
    # A run of the report is not compared with itself.
    assert comparisons.differences(groups, groups[0].runs) == ([], [])


def test_runs_of_one_protocol_have_no_differences(tmp_path: Path) -> None:
    for seed in (1, 2):
        reported_run(tmp_path, f"run{seed}", seed=seed)
    assert comparisons.differences(groups_in(tmp_path)) == ([], [])


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
    (scale,) = scales_of(groups)
    figure = score_figures.interquartile_means(scale, groups, "greedy", np.random.default_rng(0))
    assert figure is not None
    last = np.sort(scores[:, :, -1], axis=None)[3:-3].mean()
    assert [reading.text for reading in figure.readings] == [f"{last:.2f}"]
    assert figure.picture.count('class="band g0"') == 1


def test_runs_of_one_seed_tuned_to_a_task_each_are_one_sample(tmp_path: Path) -> None:
    for seed in (1, 2):
        for task in (7, 8, 9):
            run = reported_run(
                tmp_path,
                f"tuned-{seed}-{task}",
                seed=seed,
                recipe=f"a-finetune-{task}",
                tasks=[f"counting/{task}"],
                initial={"parent": "parent", "reuse": "all"},
            )
            evaluated(run, {f"counting/{task}": [10.0 * task + seed]})
    groups = groups_in(tmp_path)
    ((label, cells),) = tables.overview(groups, "greedy").rows
    assert label == "a fine-tuned"
    # 71, 81, 91 and 72, 82, 92: two seeds, of which no interval is shown.
    assert [cells[0].text, cells[1].text, cells[4].text] == ["2 (1, 2)", "3", "81.5"]
    assert [[run.seed for run in runs] for runs in by_seed(groups[0])] == [[1] * 3, [2] * 3]


def test_a_seed_that_lacks_some_of_the_tasks_is_in_no_mean_of_the_overview(tmp_path: Path) -> None:
    for seed, scores in (
        (1, {"counting/0": [10.0], "counting/1": [20.0]}),
        (2, {"counting/1": [50.0]}),
    ):
        successes = [True] if seed == 1 else [False]
        evaluated(reported_run(tmp_path, f"run{seed}", seed=seed), scores, successes=successes)
    ((_, cells),) = tables.overview(groups_in(tmp_path), "greedy").rows
    # 15 and 100 % of seed 1; seed 2 alone would make it 32.5 and 50 %.
    assert [cell.text for cell in cells[4:]] == ["15", "100 %"]


def test_the_same_seed_twice_is_two_samples(tmp_path: Path) -> None:
    for name in ("once", "again"):
        reported_run(tmp_path, name, seed=4)
    assert [len(runs) for runs in by_seed(groups_in(tmp_path)[0])] == [1, 1]
