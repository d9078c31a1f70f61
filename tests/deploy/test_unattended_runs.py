"""`--resume auto`: one command that schedulers may send again and again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

LINE = (
    *("train", "debug-counting", "--name", "night", "--resume", "auto"),
    *("--total_steps", "400", "--evaluation.episodes", "1"),
)


def steps(run: Path) -> list[int]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [int(json.loads(line)["env_steps"]) for line in lines]


@pytest.fixture
def night(command):
    """Return a run that one such command started and finished."""
    outcome = command(*LINE)
    assert outcome.code == 0, outcome.err
    return Path("runs/night")


def test_the_same_command_again_finds_nothing_left_and_that_is_no_failure(command, night):
    before = {path: path.read_bytes() for path in night.rglob("*") if path.is_file()}
    outcome = command(*LINE)
    assert outcome.code == 0
    assert outcome.out.startswith("nothing left to train: ")
    assert {path: path.read_bytes() for path in night.rglob("*") if path.is_file()} == before


def test_the_same_command_with_a_larger_budget_goes_on_where_the_run_is(command, night):
    done = max(steps(night))
    rows = len(steps(night))
    outcome = command(*LINE, "--total_steps", "800")
    assert outcome.code == 0, outcome.err
    assert max(steps(night)) >= 800
    assert min(steps(night)[rows:]) >= done


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(command, night):
    shutil.rmtree(night / "checkpoints")
    rows = len(steps(night))
    outcome = command(*LINE)
    assert outcome.code == 0, outcome.err
    assert max(steps(night)[rows:]) >= 400
    assert list((night / "checkpoints").iterdir())
    assert "resumed" not in (night / "log.txt").read_text()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (("--network.hidden", "64"), "network.hidden is 32 in the run, 64 was given"),
        (("--name", ""), "--resume auto goes on with the run of a name: give one with --name"),
    ],
)
def test_what_would_be_another_run_is_refused(command, night, changed, sentence):
    before = (night / "config.json").read_bytes()
    outcome = command(*LINE, *changed)
    assert outcome.code == 2
    assert sentence in outcome.sentence
    assert (night / "config.json").read_bytes() == before


def test_a_name_taken_by_another_recipe_is_refused(command, night):
    assert night.is_dir()
    outcome = command("train", "quickstart", *LINE[2:])
    assert outcome.code == 2
    wanted = "runs/night is a run of recipe 'debug-counting', not 'quickstart': use another name"
    assert outcome.sentence == wanted
