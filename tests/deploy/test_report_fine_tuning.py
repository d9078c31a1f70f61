"""What a report makes of fine-tuned runs: which are seeds of one group, and their tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reported_runs import TASKS, evaluated, groups_in, reported_run, scales_of

from deploy.report import figures, tables
from deploy.report.runs import read
from repertory.run_directory import RunDirectory

TASK = "counting/8"


def child(
    root: Path,
    name: str,
    parent: str,
    *,
    seed: int = 1,
    checkpoint: str = "step_000001000",
    reuse: str = "all",
    task: str = TASK,
) -> RunDirectory:
    """Write a run that was fine-tuned to a task, or its baseline."""
    initial = {"parent": parent, "checkpoint": checkpoint, "reuse": reuse, "parent_tasks": TASKS}
    return reported_run(root, name, seed=seed, recipe="a-finetune", tasks=[task], initial=initial)


def names_in(root: Path) -> dict[str, list[str]]:
    return {group.label: [run.name for run in group.runs] for group in groups_in(root)}


@pytest.mark.parametrize("steps", [(500, 500), (500, 503), (1_000, 1_300)])
def test_children_of_each_seeds_own_parent_are_one_group_though_steps_differ_a_little(
    tmp_path: Path, steps: tuple[int, int]
) -> None:
    """Or much, where both are beyond the budget of 1,000."""
    for seed, step in enumerate(steps, 1):
        reported_run(tmp_path, f"parent{seed}", seed=seed, recipe="a")
        for task in (8, 9):
            child(
                tmp_path,
                f"child{seed}-{task}",
                f"parent{seed}",
                seed=seed,
                checkpoint=f"step_{step:09d}",
                task=f"counting/{task}",
            )
    found = names_in(tmp_path)
    assert found == {
        "a": ["parent1", "parent2"],
        "a fine-tuned": ["child1-8", "child1-9", "child2-8", "child2-9"],
    }


def test_steps_that_are_as_good_as_equal_are_in_no_name(tmp_path: Path) -> None:
    """Runs end some steps behind their budget, as chance has it, and are saved near a step."""
    for place, rate, step in (("x", 0.5, 1_168), ("y", 0.25, 1_265)):
        reported_run(tmp_path, place, recipe="a", optimiser={"learning_rate": rate})
        child(tmp_path, f"child-{place}", place, checkpoint=f"step_{step:09d}")
    assert [label for label in names_in(tmp_path) if "tuned" in label] == [
        "a fine-tuned, parent's learning_rate 0.5",
        "a fine-tuned, parent's learning_rate 0.25",
    ]
    for seed, step in ((1, 1_000), (2, 1_003)):
        initial = {
            "parent": f"/gone/{seed}",
            "checkpoint": f"step_{step:09d}",
            "parent_tasks": TASKS[:seed],
        }
        reported_run(tmp_path / "gone", f"child{seed}", recipe="a", initial=initial)
    assert list(names_in(tmp_path / "gone")) == [
        "a fine-tuned, pre-trained on 1 task",
        "a fine-tuned, pre-trained on 2 tasks",
    ]


def test_children_of_parents_of_other_settings_are_groups_of_their_own(tmp_path: Path) -> None:
    for seed, rate in ((1, 0.5), (2, 0.25)):
        optimiser = {"learning_rate": rate}
        reported_run(tmp_path, f"parent{seed}", seed=seed, recipe="a", optimiser=optimiser)
        child(tmp_path, f"child{seed}", f"parent{seed}", seed=seed)
        child(tmp_path, f"scratch{seed}", f"parent{seed}", seed=seed, checkpoint="", reuse="none")
    found = names_in(tmp_path)
    assert found["a fine-tuned, parent's learning_rate 0.5"] == ["child1"]
    assert found["a fine-tuned, parent's learning_rate 0.25"] == ["child2"]
    # Baselines took nothing over: whose they are makes no difference.
    assert found["a from scratch"] == ["scratch1", "scratch2"]


@pytest.mark.parametrize("parents", [("parent", "parent"), ("parent", "other")])
def test_children_of_weights_that_were_trained_for_longer_are_another_group(
    tmp_path: Path, parents: tuple[str, str]
) -> None:
    """Of one parent, or of two seeds of one group."""
    for seed, name in enumerate(dict.fromkeys(parents), 1):
        reported_run(tmp_path, name, seed=seed, recipe="a")
    for seed, (name, step) in enumerate(zip(parents, (100, 1_000), strict=True), 1):
        child(tmp_path, f"child{seed}", name, seed=seed, checkpoint=f"step_{step:09d}")
    found = names_in(tmp_path)
    assert found["a fine-tuned, pre-trained for 100 steps"] == ["child1"]
    assert found["a fine-tuned, pre-trained for 1k steps"] == ["child2"]


def test_checkpoints_of_one_parent_are_apart_however_near_they_are(tmp_path: Path) -> None:
    reported_run(tmp_path, "parent", recipe="a")
    for seed, step in ((1, 999), (2, 1_000)):
        child(tmp_path, f"child{seed}", "parent", seed=seed, checkpoint=f"step_{step:09d}")
    assert [runs for label, runs in names_in(tmp_path).items() if "tuned" in label] == [
        ["child1"],
        ["child2"],
    ]


def test_parents_that_are_not_in_the_report_are_looked_up_where_they_lie(tmp_path: Path) -> None:
    for seed, (place, rate) in enumerate((("told", 0.5), ("moved", 0.25)), 1):
        parent = reported_run(
            tmp_path / place, "parent", seed=seed, optimiser={"learning_rate": rate}
        )
        told = parent.path if place == "told" else tmp_path / "gone" / "parent"
        child(tmp_path / place, f"child{seed}", str(told), seed=seed)
    (tmp_path / "children").mkdir()
    (tmp_path / "told" / "child1").rename(tmp_path / "children" / "child1")
    (tmp_path / "children" / "child2").symlink_to(tmp_path / "moved" / "child2")
    assert names_in(tmp_path / "children") == {
        "a fine-tuned, parent's learning_rate 0.5": ["child1"],
        "a fine-tuned, parent's learning_rate 0.25": ["child2"],
    }


def test_children_of_parents_that_are_gone_are_seeds_only_where_no_two_can_be_one_seeds(
    tmp_path: Path,
) -> None:
    for seed in (1, 2):
        child(tmp_path / "sure", f"child{seed}", f"/gone/parent{seed}", seed=seed)
    assert list(names_in(tmp_path / "sure").values()) == [["child1", "child2"]]
    for place in ("x", "y"):
        child(tmp_path / "unsure", f"child-{place}", f"/gone/{place}")
    assert list(names_in(tmp_path / "unsure").values()) == [["child-x"], ["child-y"]]
    for step in (100, 1_000):
        name = f"child{step}"
        child(tmp_path / "steps", name, "/gone/parent", checkpoint=f"step_{step:09d}")
    assert list(names_in(tmp_path / "steps").values()) == [["child100"], ["child1000"]]


def test_the_table_of_fine_tuning_has_zero_shot_play_of_parents_and_trained_play_of_children(
    tmp_path: Path,
) -> None:
    """Children are tuned to task 0, which their parent knew, and to task 8, which it did not."""
    parent = reported_run(tmp_path, "parent", recipe="a", held_out=[TASK])
    evaluated(parent, {"counting/0": [50.0]}, successes=[True])
    evaluated(parent, {TASK: [3.0]}, successes=[False, False], trained_on=False)
    known = child(tmp_path, "known", "parent", task="counting/0")
    evaluated(known, {"counting/0": [70.0]}, successes=[True])
    evaluated(known, {TASK: [4.0]}, successes=[False], trained_on=False)
    evaluated(child(tmp_path, "new", "parent"), {TASK: [9.0]}, successes=[True, False])
    table = tables.fine_tuning(groups_in(tmp_path), "greedy")
    assert table is not None
    assert list(table.columns) == [
        "task",
        "a, zero-shot: success",
        "a, zero-shot: return",
        "a fine-tuned: success",
        "a fine-tuned: return",
    ]
    assert {name: [cell.text for cell in cells] for name, cells in table.rows} == {
        "counting/0": ["–", "–", "100 %", "70"],
        TASK: ["0 %", "3", "50 %", "9"],
    }


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_left_of_a_parents_tasks_is_no_zero_shot_score(
    tmp_path: Path, recorded: bool
) -> None:
    """Whether the file says that the task was trained on before, or is older than that word."""
    rows = [
        {
            "env_steps": step,
            "eval/greedy/task/counting/0/return": 1.0,
            "eval/greedy/task/counting/9/return": 1.0,
        }
        for step in (100, 200)
    ]
    initial = {"parent": "gone", "reuse": "all", "parent_tasks": TASKS}
    run = reported_run(tmp_path, "child", tasks=[TASK], initial=initial, rows=rows)
    evaluated(run, {"counting/0": [6.0]}, successes=[True], trained_on=False)
    evaluated(run, {"counting/9": [2.0]}, successes=[True], trained_on=False)
    if recorded:
        for path in run.evaluations.iterdir():
            text = path.read_text()
            before = "true" if '"counting/0"' in text else "false"
            told = f'"trained_on": false, "trained_before": {before}'
            path.write_text(text.replace('"trained_on": false', told))
    assert {one.task: one.history for one in read(run.path).evaluations} == {
        "counting/0": "before",
        "counting/9": "never",
    }
    groups = groups_in(tmp_path)
    both = ["counting/0", "counting/9"]
    shown = {}
    for history in ("before", "never", "trained"):
        table = tables.evaluation(groups, both, "greedy", history=history)
        shown[history] = [name for name, _ in table.rows] if table is not None else []
    assert shown == {"before": ["counting/0"], "never": ["counting/9"], "trained": []}
    (scale,) = scales_of(groups)
    assert (list(scale.tasks), scale.unseen) == (["counting/9"], frozenset({0}))
    np.testing.assert_array_equal(scale.scores[0], [[1.0]])
    (panel,) = figures.zero_shot_panels(groups, "greedy")
    assert [one.full_name for one in panel.figures] == ["counting/9"]
