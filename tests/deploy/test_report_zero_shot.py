"""What a report shows of tasks that an agent never trained on: their own curves, and levels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from reported_runs import evaluated, groups_in, reported_run

from deploy.report import figures
from deploy.report.levels import ZeroShotLevels
from repertory.run_directory import RunDirectory

HELD_OUT = "counting/8"


def evaluations(values: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return rows of evaluations, 100 steps apart."""
    return [
        {
            "env_steps": 100 * place,
            **{f"eval/greedy/task/{task}/return": of[place - 1] for task, of in values.items()},
        }
        for place in range(1, 1 + len(next(iter(values.values()))))
    ]


def pretrained(root: Path, name: str, seed: int, level: float, **settings: Any) -> RunDirectory:
    """Write a run that was evaluated on a held-out task four times, at last with `level`."""
    values = {"counting/0": [1.0, 2.0, 3.0, 4.0], "counting/1": [3.0, 4.0, 5.0, 6.0]}
    unseen = {HELD_OUT: [90.0, 80.0, 70.0, level], "counting/9": [50.0, 50.0, 50.0, 50.0]}
    run = reported_run(
        root,
        name,
        seed=seed,
        rows=evaluations(values | unseen),
        held_out=list(unseen),
        **settings,
    )
    evaluated(run, {"counting/0": [4.0]})
    evaluated(run, {HELD_OUT: [level - 1, level + 1]}, trained_on=False)
    return run


def tuned(root: Path, name: str, parent: str, seed: int, reuse: str = "all") -> RunDirectory:
    """Write a run fine-tuned to the held-out task, or its baseline."""
    rows = evaluations({HELD_OUT: [10.0, 11.0, 12.0, 13.0]})
    return reported_run(
        root,
        name,
        seed=seed,
        tasks=[HELD_OUT],
        rows=rows,
        initial={"parent": parent, "reuse": reuse},
    )


def test_tasks_that_are_never_trained_on_have_curves_of_their_own_and_no_part_in_other_means(
    tmp_path: Path,
) -> None:
    pretrained(tmp_path, "parent", 1, 60.0)
    tuned(tmp_path, "child", "parent", 1)
    groups = groups_in(tmp_path)
    by_label = {group.label: group.index for group in groups}
    trained = ["counting/0", "counting/1", HELD_OUT]
    (panel,) = figures.panels(groups, trained, "greedy")
    shown = {
        one.full_name: [(r.group, r.text) for r in one.readings if not r.level]
        for one in panel.figures
    }
    parent, child = by_label["made-up"], by_label["made-up fine-tuned"]
    assert shown == {
        "counting/0": [(parent, "4")],
        "counting/1": [(parent, "6")],
        HELD_OUT: [(child, "13")],
    }
    (overall,) = panel.overall
    assert [(r.group, r.text) for r in overall.readings] == [(parent, "5")]
    (unseen,) = figures.zero_shot_panels(groups, "greedy")
    assert [
        (one.full_name, [(r.group, r.text) for r in one.readings]) for one in unseen.figures
    ] == [
        (HELD_OUT, [(parent, "60")]),
        ("counting/9", [(parent, "50")]),
    ]
    (mean,) = unseen.overall
    assert [reading.text for reading in mean.readings] == ["55"]
    assert (mean.name, mean.note) == (
        "Mean over 2 tasks: zero-shot return, greedy evaluation",
        "8, 9",
    )


def test_runs_that_evaluate_what_they_train_on_have_no_zero_shot_curves(tmp_path: Path) -> None:
    tuned(tmp_path, "child", "parent", 1)
    assert figures.zero_shot_panels(groups_in(tmp_path), "greedy") == []


def test_the_level_of_the_parents_is_in_the_picture_of_a_task_that_is_tuned_to(
    tmp_path: Path,
) -> None:
    for seed, level in ((1, 60.0), (2, 70.0)):
        pretrained(tmp_path, f"parent{seed}", seed, level)
        tuned(tmp_path, f"child{seed}", f"somewhere/parent{seed}", seed)
        tuned(tmp_path, f"scratch{seed}", f"somewhere/parent{seed}", seed, "none")
    # One of the same name in another group, of which nothing was tuned.
    pretrained(tmp_path, "other", 1, 20.0, optimiser={"learning_rate": 0.5})
    groups = groups_in(tmp_path)
    (level,) = ZeroShotLevels(groups).of(HELD_OUT, "greedy", success=False)
    assert groups[level.group].runs[0].name == "parent1"
    assert level.value == 65.0
    assert ZeroShotLevels(groups).of(HELD_OUT, "greedy", success=True) == []
    assert ZeroShotLevels(groups).of("counting/0", "greedy", success=False) == []
    (panel,) = figures.panels(groups, ["counting/0", HELD_OUT], "greedy")
    without, with_level = panel.figures
    assert 'class="line level' not in without.picture
    (drawn,) = re.findall(
        r'<path class="line level g(\d)" data-group="\d" data-name="[^"]*" d="(\S+) (\S+)L',
        with_level.picture,
    )
    assert int(drawn[0]) == level.group
    # 65 is above every curve: the picture reaches up to it.
    assert 0 < float(drawn[2]) < 40
    assert [r.text for r in with_level.readings if r.level] == ["zero-shot, greedy 65"]
    assert ">zero-shot, greedy</text>" in with_level.picture


def test_training_episodes_have_the_level_of_sampled_play_and_no_other(tmp_path: Path) -> None:
    parent = pretrained(tmp_path, "parent", 1, 60.0)
    rows = [{**row, f"task/{HELD_OUT}/return": 5.0} for row in evaluations({HELD_OUT: [9.0, 9.0]})]
    initial = {"parent": "parent", "reuse": "all"}
    reported_run(tmp_path, "child", tasks=[HELD_OUT], rows=rows, initial=initial)

    def levels() -> dict[str, list[str]]:
        tasks = ["counting/0", "counting/1", HELD_OUT]
        panels = figures.panels(groups_in(tmp_path), tasks, "greedy")
        return {
            panel.title: [r.text for one in panel.figures for r in one.readings if r.level]
            for panel in panels
        }

    greedy, training = "Return, greedy evaluation", "Return, training episodes"
    assert levels() == {greedy: ["zero-shot, greedy 60"], training: []}
    evaluated(parent, {HELD_OUT: [40.0]}, policy="sampled", trained_on=False)
    assert levels() == {greedy: ["zero-shot, greedy 60"], training: ["zero-shot, sampled 40"]}


@pytest.mark.parametrize("place", ["runs", "moved"])
def test_a_parent_that_is_not_in_the_report_is_looked_up_where_it_lies(
    tmp_path: Path, place: str
) -> None:
    """By the path that its child knows, or beside the child if both were moved."""
    parent = pretrained(tmp_path / place, "parent", 1, 60.0)
    told = parent.path if place == "runs" else tmp_path / "gone" / "parent"
    folder = tmp_path / ("children" if place == "runs" else place)
    tuned(folder, "child", str(told), 1)
    tuned(folder, "scratch", str(told), 1, "none")
    groups = [g for g in groups_in(folder) if g.runs[0].parent]
    (level,) = ZeroShotLevels(groups).of(HELD_OUT, "greedy", success=False)
    (child,) = (group for group in groups if not group.runs[0].from_scratch)
    assert (level.group, level.value) == (child.index, 60.0)


def test_seeds_that_lack_a_task_are_in_no_mean_over_tasks(tmp_path: Path) -> None:
    for seed, tasks in ((1, (7, 8)), (2, (7,))):
        for task in tasks:
            reported_run(
                tmp_path,
                f"child{seed}-{task}",
                seed=seed,
                tasks=[f"counting/{task}"],
                initial={"parent": "parent", "reuse": "all"},
            )
    (panel,) = figures.panels(groups_in(tmp_path), ["counting/7", "counting/8"], "greedy")
    (overall,) = panel.overall
    # Seed 1 ends in 11 on both tasks; seed 2 alone would bring in 12.
    assert [reading.text for reading in overall.readings] == ["11"]


def test_groups_of_different_tasks_are_not_drawn_into_one_mean(tmp_path: Path) -> None:
    few, many = ["counting/0", "counting/1"], ["counting/0", "counting/1", "counting/2"]
    reported_run(tmp_path, "few", tasks=few)
    reported_run(tmp_path, "many", tasks=many)
    reported_run(tmp_path, "many2", tasks=many, optimiser={"learning_rate": 0.5})
    reported_run(tmp_path, "one", tasks=["counting/0"])
    groups = groups_in(tmp_path)
    (panel,) = figures.panels(groups, many, "greedy")
    found = {
        one.note: sorted(groups[r.group].runs[0].name for r in one.readings)
        for one in panel.overall
    }
    assert found == {"0, 1": ["few"], "0, 1, 2": ["many", "many2"]}


def test_the_page_has_a_section_of_zero_shot_curves_and_says_what_a_level_is(
    command: Any, tmp_path: Path
) -> None:
    pretrained(tmp_path / "all", "parent", 1, 60.0)
    tuned(tmp_path / "all", "child", "parent", 1)
    tuned(tmp_path / "few", "child", "parent", 1)
    pages = {}
    for name in ("all", "few"):
        assert command("report", name).code == 0
        pages[name] = (tmp_path / name / "report.html").read_text()
    for words in ("Zero-shot over training", "Dashed: zero-shot", "a picture holds only groups"):
        assert words in pages["all"], words
        assert words not in pages["few"], words
    # A task of the section can be filtered by name like any other.
    section = pages["all"].partition('id="zero-shot"')[2]
    assert 'data-name="counting/9"' in section
