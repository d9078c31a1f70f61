"""The commands on a page that make its runs, their evaluations and the page itself again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from reported_runs import TASKS, evaluated, reported_run

from deploy import schema
from deploy.commands import evaluate as evaluate_command
from deploy.commands import parse
from deploy.overrides import resolve, scan
from deploy.report import repeating
from deploy.report.runs import read
from repertory.config import RunConfig
from repertory.recipes import get
from repertory.run_directory import RunDirectory


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


@pytest.mark.parametrize(
    ("kept", "taken", "flag"),
    [
        (("step_000000100", "step_000000200"), "step_000000200", ""),
        (
            ("step_000000100", "step_000000200"),
            "step_000000100",
            " --checkpoint {c}/step_000000100",
        ),
        (("step_999999999", "step_1000000000"), "step_1000000000", ""),
        ((), "/elsewhere/step_000000100", " --checkpoint /elsewhere/step_000000100"),
        ((), "{parent}", ""),  # an exported agent, which has no checkpoints to choose
    ],
)
def test_a_fine_tuned_run_is_repeated_with_its_masks_and_its_weights(
    tmp_path: Path, kept: tuple[str, ...], taken: str, flag: str
) -> None:
    parent = reported_run(tmp_path, "parent")
    for name in kept:
        (parent.checkpoints / name).mkdir()
    initial = {
        "parent": str(parent.path),
        "checkpoint": taken.format(parent=parent.path),
        "masks": "source:counting/1",
    }
    child = reported_run(tmp_path, "child", tasks=["counting/8"], initial=initial)
    assert repeating.command(read(child.path)) == (
        f"repertory finetune {parent.path} --task counting/8 --masks source:counting/1"
        f"{flag.format(c=parent.checkpoints)} --seed 1"
    )


def test_evaluations_that_a_run_did_not_make_by_itself_are_commands_of_their_own(
    tmp_path: Path,
) -> None:
    run = reported_run(tmp_path, "run", held_out=["counting/8", "counting/9"])
    for step in (500, 1_000):
        (run.checkpoints / f"step_{step:09d}").mkdir()
    own = dict.fromkeys(TASKS, [1.0] * 5)
    evaluated(run, own)
    assert repeating.evaluations(read(run.path)) == []
    evaluated(run, own, policy="random", step=0)
    evaluated(run, {"counting/8": [1.0] * 100, "counting/9": [1.0] * 100}, trained_on=False, seed=9)
    evaluated(run, {"counting/7": [1.0] * 5}, trained_on=False, step=500)
    evaluated(run, {"counting/6": [1.0] * 5}, trained_on=False, step=700)
    told = repeating.evaluations(read(run.path))
    start = f"repertory evaluate {run.path}"
    # In the order of the files' names, which begin with the steps.
    assert told == [
        f"{start} --policy random",
        f"{start} --task counting/7 --policy greedy --checkpoint {run.checkpoints}/step_000000500",
        f"{start} --task counting/6 --policy greedy\n"
        "# the weights of then, after 700 steps, are gone",
        f"{start} --held-out --policy greedy --episodes 100 --seed 9",
    ]
    for line in told:
        words = shlex.split(line.partition("\n")[0])[2:]
        assert parse(evaluate_command.Options, words, "usage", ["run_dir"]).run_dir == run.path


def test_evaluations_beside_training_are_the_runs_own(tmp_path: Path) -> None:
    """Of held-out tasks too, and of fewer episodes, where the run is set to it."""
    unseen = {"counting/8": [1.0]}
    for name, told in (("with", 0), ("without", 1)):
        settings = {"held_out": name == "with", "every_steps": 100, "interim_episodes": 1}
        run = reported_run(tmp_path, name, held_out=list(unseen), evaluation=settings)
        evaluated(run, unseen, trained_on=False, step=100)
        assert len(repeating.evaluations(read(run.path))) == told, name


def test_the_command_of_the_report_names_references_and_the_page(
    command: Any, tmp_path: Path
) -> None:
    run = reported_run(tmp_path, "run")
    evaluated(run, {"counting/0": [2.0] * 5})
    reference = reported_run(tmp_path / "my runs", "reference", recipe="other")
    evaluated(reference, {"counting/0": [1.0] * 5}, policy="random", step=0)
    assert command("report", "run", "--reference", "my runs/reference", "--out", "p.html").code == 0
    page = (tmp_path / "p.html").read_text()
    assert "repertory report run --reference &#39;my runs/reference&#39; --out p.html</pre>" in page
    # What the scores of the page rest on, thus the reference's floor too.
    floor = "evaluate &#39;my runs/reference&#39; --task counting/0 --policy random</pre>"
    assert f"repertory {floor}" in page
