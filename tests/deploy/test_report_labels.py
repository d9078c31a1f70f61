"""What a report calls its groups of runs."""

from __future__ import annotations

from pathlib import Path

from reported_runs import groups_in, reported_run

from deploy.report.grouping import grouped
from deploy.report.runs import find, read
from repertory.recipes.studies import get_study


def test_the_groups_of_a_study_are_called_by_how_many_variants_were_pre_trained_on(
    tmp_path: Path,
) -> None:
    study = get_study("study-breakout-small")
    for tasks in study.pretraining:
        name = f"pretrain-{len(tasks)}"
        reported_run(tmp_path, name, recipe=study.recipe, tasks=tasks, held_out=study.held_out)
        for task in study.held_out:
            for reuse, kind in (("all", "finetune"), ("none", "scratch")):
                reported_run(
                    tmp_path,
                    f"{kind}-{len(tasks)}-{task.rpartition('/')[2]}",
                    recipe=f"{study.recipe}-{kind}-{task.replace('/', '-')}",
                    tasks=[task],
                    initial={"parent": name, "reuse": reuse, "parent_tasks": tasks},
                )
    assert sorted(group.label for group in groups_in(tmp_path)) == [
        "quickstart fine-tuned, pre-trained on 1 task",
        "quickstart fine-tuned, pre-trained on 2 tasks",
        "quickstart fine-tuned, pre-trained on 4 tasks",
        "quickstart from scratch",
        "quickstart, pre-trained on 1 task",
        "quickstart, pre-trained on 2 tasks",
        "quickstart, pre-trained on 4 tasks",
    ]


def test_as_many_tasks_but_other_ones_are_named(tmp_path: Path) -> None:
    reported_run(tmp_path, "a", tasks=["counting/0", "counting/1"])
    reported_run(tmp_path, "b", tasks=["counting/0", "counting/2"])
    assert [group.label for group in groups_in(tmp_path)] == [
        "made-up, tasks 0 1",
        "made-up, tasks 0 2",
    ]


def test_settings_beyond_the_third_are_told_where_the_first_three_are_the_same_words(
    tmp_path: Path,
) -> None:
    first = {"evaluation": {"seed": 1, "lanes": 2}}
    reported_run(tmp_path, "a", optimiser={"learning_rate": 0.5}, **first)
    for name, clip in (("b", 3.0), ("c", 4.0)):
        other = {"evaluation": {"seed": 2, "lanes": 3, "episodes": 9}}
        optimiser = {"learning_rate": 0.25, "clip_norm": clip, "epsilon": 1e-3, "decay": 0.5}
        reported_run(tmp_path, name, optimiser=optimiser, **other)
    labels = [group.label for group in groups_in(tmp_path)]
    assert len(set(labels)) == 3
    assert labels[0].startswith("made-up, learning_rate 0.5")
    told = {label.rpartition(", ")[2] for label in labels[1:]}
    assert told == {"clip_norm 3.0", "clip_norm 4.0"}


def test_groups_that_no_short_word_tells_apart_are_named_by_a_run(tmp_path: Path) -> None:
    """Two long lists that begin alike, and of the same length."""
    for name, last in (("first", 20), ("second", 21)):
        tasks = [f"counting/{index}" for index in [*range(19), last]]
        reported_run(tmp_path, name, tasks=tasks)
    labels = [group.label for group in groups_in(tmp_path)]
    assert [label.rpartition(" ")[2] for label in labels] == ["(first)", "(second)"]


def test_labels_stay_unlike_where_even_the_directories_are_called_the_same(tmp_path: Path) -> None:
    for place, last in (("x", 20), ("y", 21)):
        tasks = [f"counting/{index}" for index in [*range(19), last]]
        reported_run(tmp_path / place, "same", tasks=tasks)
    runs = [read(path) for path in find([tmp_path / "x", tmp_path / "y"])]
    labels = [group.label for group in grouped(runs)]
    assert [label.rpartition(" ")[2] for label in labels] == ["#1", "#2"]
