"""`repertory finetune --each` as a whole: names are checked first, and sent again it goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from finetuned_runs import pretrained
from small_runs import counting_config

from deploy import local
from deploy.local import LocalRun
from repertory import checkpoint
from repertory.config import NetworkConfig

TASKS = ("--task", "counting/4", "counting/5", "counting/6")
FLAGS = ("--total_steps", "120", "--evaluation.at_end", "false")
LINE = ("finetune", "runs/parent", *TASKS, "--each", "--name", "first", *FLAGS)
NAMES = ("first-4", "first-5", "first-6")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a pre-trained run."""
    pretrained(tmp_path / "runs", counting_config(network=NetworkConfig(torso="mlp", hidden=16)))
    return tmp_path / "runs"


def steps(run: Path) -> list[int]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [int(json.loads(line)["env_steps"]) for line in lines]


def contents(runs: Path, *names: str) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for name in names
        for path in (runs / name).rglob("*")
        if path.is_file()
    }


def stopped_in(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """Let Ctrl-C come while `task` is trained, once."""
    play = LocalRun.round

    def interrupted(run: LocalRun) -> None:
        play(run)
        if run.tasks[0].name == task:
            monkeypatch.setattr(local.LocalRun, "round", play)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(local.LocalRun, "round", interrupted)


def test_a_name_that_is_taken_is_refused_before_any_of_the_runs_begins(
    runs: Path, command: Any
) -> None:
    (runs / "first-6").mkdir()
    outcome = command(*LINE)
    assert (outcome.code, outcome.files) == (2, [])
    assert "runs/first-6 exists and is never overwritten" in outcome.sentence


def test_after_a_stop_the_same_command_leaves_what_is_done_and_goes_on_with_the_rest(
    runs: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_in(monkeypatch, "counting/5")
    outcome = command(*LINE)
    assert outcome.code == 130
    assert outcome.out.endswith("the same command goes on with what is left\n")
    assert not (runs / "first-6").exists()
    before, half_way = contents(runs, "first-4"), max(steps(runs / "first-5"))
    assert half_way < 120
    rows = len(steps(runs / "first-5"))

    outcome = command(*LINE)
    assert outcome.code == 0, outcome.err
    assert "nothing left to train: 120 of 120 steps in runs/first-4" in outcome.out
    assert contents(runs, "first-4") == before
    assert min(steps(runs / "first-5")[rows:]) > half_way
    assert [max(steps(runs / name)) for name in NAMES] == [120, 120, 120]

    before = contents(runs, *NAMES)
    assert command(*LINE).code == 0
    assert contents(runs, *NAMES) == before


@pytest.mark.usefixtures("runs")
def test_without_a_name_a_stop_says_what_was_not_begun(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_in(monkeypatch, "counting/5")
    outcome = command("finetune", "runs/parent", *TASKS, "--each", *FLAGS)
    assert outcome.code == 130
    assert outcome.out.endswith(
        "not begun: counting/6; with a --name the same command can go on by itself\n"
    )


def test_a_run_goes_on_though_the_earlier_one_has_newer_weights_by_now(
    runs: Path, command: Any
) -> None:
    one = ("finetune", "runs/parent", "--task", "counting/4", "--name", "one", *FLAGS)
    assert command(*one).code == 0
    kept = runs / "parent" / "checkpoints"
    state, _, _ = checkpoint.load_latest(kept)
    checkpoint.save(kept, state, 900, keep=2)
    before = contents(runs, "one")
    assert command(*one).code == 0
    assert contents(runs, "one") == before


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            ("--reuse", "reset-heads"),
            "runs/first-4 is there already, with reuse all and not reset-heads: choose another "
            "--name",
        ),
        (
            ("--checkpoint", "runs/parent/checkpoints/step_000000600", "--task", "counting/9"),
            "runs/first-9 is there already, with tasks counting/4 and not counting/9: choose "
            "another --name",
        ),
        (
            ("--network.hidden", "16", "--seed", "5"),
            "runs/first-4 is there already; --resume continues the run as it was: seed is 1 in "
            "the run, 5 was given",
        ),
    ],
)
def test_another_run_under_the_name_is_refused_before_anything_is_trained(
    runs: Path, command: Any, given: tuple[str, ...], sentence: str
) -> None:
    short = ("finetune", "runs/parent", "--each", "--name", "first", *FLAGS)
    assert command(*short, "--task", "counting/4").code == 0
    (runs / "first-9").symlink_to(runs / "first-4")
    task = () if "--task" in given else ("--task", "counting/7", "counting/4")
    outcome = command(*short, *task, *given)
    assert (outcome.code, outcome.files) == (2, [])
    assert outcome.sentence.startswith(sentence)
