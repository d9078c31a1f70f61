"""Commands that do something: train, resume, evaluate, tasks, bench, doctor, in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from films import read

import envs.atari.catalog
from deploy.checks import machine, packages, runs_directory, token
from learner.compilation import compiling_pays
from repertory.config import RunConfig
from repertory.recipes import RECIPES
from repertory.run_directory import RunDirectory

GAMES = ("asteroids", "bank_heist", "pong", "space_invaders")
SHORT = ("--total_steps", "400", "--evaluation.episodes", "1")


@pytest.fixture
def trained(command):
    """Return a short run of the counting environment."""
    outcome = command("train", "debug-counting", "--name", "first", *SHORT)
    assert outcome.code == 0, outcome.err
    return Path("runs/first")


def test_a_run_keeps_its_config_and_protocol(trained):
    content = json.loads((trained / "config.json").read_text())
    config = RunConfig.model_validate_json(json.dumps(content["config"]))
    assert config.total_steps == 400
    assert config.recipe == "debug-counting"
    assert config.actors == RECIPES["debug-counting"].config.actors
    assert content["protocol"]["tasks"] == ["counting/0", "counting/1", "counting/2"]
    assert (trained / "log.txt").read_text()
    assert (trained / "metrics.jsonl").read_text()


def test_a_run_directory_is_never_overwritten(command, trained):
    before = (trained / "config.json").read_bytes()
    outcome = command("train", "debug-counting", "--name", "first", *SHORT)
    assert outcome.code == 2
    assert "runs/first exists and is never overwritten" in outcome.sentence
    assert (trained / "config.json").read_bytes() == before
    assert outcome.files == []


def test_a_resumed_run_goes_on_with_what_may_change(command, trained):
    outcome = command("train", "--resume", str(trained), "--total_steps", "800")
    assert outcome.code == 0, outcome.err
    content = json.loads((trained / "config.json").read_text())
    assert content["config"]["total_steps"] == 800
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert max(row["env_steps"] for row in rows) >= 800
    assert "done: repertory evaluate runs/first" in outcome.out


@pytest.mark.parametrize("budget", [[], ["--total_steps", "200"]])
def test_a_run_at_its_budget_has_nothing_left_to_train(command, trained, budget):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    outcome = command("train", "--resume", str(trained), *budget)
    assert outcome.code == 2
    wanted = int((budget or ["400"])[-1])
    found = re.fullmatch(
        rf"nothing left to train: (\d+) of {wanted} steps; raise --total_steps", outcome.sentence
    )
    assert found
    assert int(found[1]) >= 400
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_network_is_refused_by_name(command, trained):
    outcome = command("train", "--resume", str(trained), "--network.hidden", "64")
    assert outcome.code == 2
    assert "network.hidden is 32 in the run, 64 was given" in outcome.sentence
    assert outcome.files == []


def test_a_dry_run_of_a_resume_writes_nothing(command, trained):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    outcome = command("train", "--resume", str(trained), "--dry-run", "--total_steps", "900")
    assert outcome.code == 0
    assert "total_steps: 900" in outcome.out
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_evaluation_prints_a_row_per_task_and_says_where_the_numbers_are(command, trained):
    outcome = command(
        *("evaluate", str(trained), "--task", "counting/0", "counting/5"),
        *("--policy", "greedy", "random", "--episodes", "2"),
    )
    assert outcome.code == 0, outcome.err
    rows = {line.split()[0]: line for line in outcome.out.splitlines() if "counting/" in line}
    assert "unseen" in rows["counting/5"]
    assert "unseen" not in rows["counting/0"]
    # Rewards count up from 0 over 7 steps, whatever the policy.
    assert rows["counting/0"].count("21.0 ± 0.0") == 2
    written = Path(outcome.out.strip().splitlines()[-1].removeprefix("written to "))
    scores = json.loads(written.read_text())["scores"]
    assert {(score["task"], score["policy"]) for score in scores} == {
        (task, policy) for task in ("counting/0", "counting/5") for policy in ("greedy", "random")
    }


def test_evaluation_of_tasks_of_another_suite_is_refused(command, trained):
    outcome = command("evaluate", str(trained), "--task", "atari/pong/m0d0")
    assert outcome.code == 2
    assert "'atari/pong/m0d0' is of the suite atari" in outcome.sentence
    assert outcome.files == []


def test_filming_what_has_no_picture_is_refused_and_leaves_no_film(command, trained):
    outcome = command("watch", str(trained), "--task", "counting/0", "--policy", "random")
    assert outcome.code == 2
    assert outcome.sentence == "task counting/0 has no picture to film"
    assert outcome.files == []


def test_a_film_that_cannot_be_written_is_refused_before_anything_is_played(command, trained):
    outcome = command("watch", str(trained), "--policy", "random", "--video", "/proc/film.mp4")
    assert outcome.code == 2
    assert outcome.sentence.startswith("cannot write the video /proc/film.mp4: ")


def test_an_atari_episode_is_filmed_in_colour_at_screen_size_and_real_speed(command):
    run = RunDirectory.create(Path("runs"), "single-task", "pong")
    run.write_config(RunConfig(tasks=("atari/pong/m0d0",)), {})
    outcome = command(
        *("watch", "runs/pong", "--task", "atari/pong/m1d0", "--policy", "random"),
        *("--max-steps", "12", "--video", "pong.mp4", "--no-panel"),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("atari/pong/m1d0: return ")
    film = read(Path("pong.mp4"))
    assert film.size == (160, 210)
    assert film.fps == 15.0
    assert len(film.pictures) == 13
    # Pong is played on brown.
    red, green, blue = film.pictures[-1].mean(axis=(0, 1))
    assert red > green > blue


def test_recipes_are_listed_one_per_line(command):
    lines = command("recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)


def test_tasks_lists_games_suites_and_variants(command, monkeypatch):
    # Loading all 104 takes seconds.
    monkeypatch.setattr(envs.atari.catalog, "games", lambda: GAMES)
    rows = [" ".join(line.split()) for line in command("tasks").out.splitlines()]
    assert rows[1:] == [
        "atari/asteroids 66 3 14 0, 3 33 from 0 to 128",
        "atari/bank_heist 32 3 18 0–3 0–28 by 4",
        "atari/pong 8 0 6 0–3 0, 1",
        "atari/space_invaders 32 3 6 0, 1 0–15",
    ]
    names = command("tasks", "atari/space_invaders/train").out.split()
    assert len(names) == 29
    assert "atari/space_invaders/m0d0" in names


def test_a_benchmark_is_run_with_the_rest_of_the_line_and_gives_the_exit_code(
    command, monkeypatch, tmp_path
):
    import sys
    import types

    import deploy.commands.bench

    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "seven.py").write_text('"""Returns seven."""\n\n\ndef main(argv):\n    pass\n')
    monkeypatch.setattr(deploy.commands.bench, "FOLDER", folder)
    given: list[list[str]] = []
    module = types.ModuleType("benchmarks.seven")
    module.main = lambda argv: given.append(argv) or 7
    monkeypatch.setitem(sys.modules, "benchmarks.seven", module)
    assert command("bench", "seven", "--lanes", "4").code == 7
    command("bench", "seven", "--help")
    assert given == [["--lanes", "4"], ["--help"]]
    assert "seven: Returns seven" in command("bench", "--help").out


def test_the_doctor_finds_this_machine_fit_and_sends_a_round_trip(command):
    outcome = command("doctor")
    assert outcome.code == 0, outcome.out
    assert "weights 0 ->" in outcome.out
    assert outcome.files == []


def test_the_doctor_ends_with_1_when_something_required_is_broken(command, monkeypatch):
    def lost():
        raise RuntimeError("the ROMs are gone")

    monkeypatch.setattr(envs.atari.catalog, "games", lost)
    outcome = command("doctor")
    assert outcome.code == 1
    assert "RuntimeError: the ROMs are gone" in outcome.out
    assert outcome.out.strip().endswith("broken: Atari ROMs")


def test_the_doctor_reports_a_cluster_that_does_not_answer(command, monkeypatch):
    import deploy.commands.doctor

    monkeypatch.setattr(deploy.commands.doctor, "machine", lambda _: iter(()))
    outcome = command("doctor", "--address", "127.0.0.1:1")
    assert outcome.code == 1
    assert "no Ray cluster answers at host 127.0.0.1, port 1" in " ".join(outcome.out.split())


def test_versions_other_than_the_tested_ones_are_warned_of(tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("numpy==0.0.1\n")
    findings = {finding.what: finding for finding in packages(constraints)}
    assert findings["numpy"].status == "warning"
    assert findings["numpy"].detail.endswith("tested with 0.0.1")
    assert findings["torch"].status == "ok"


def test_a_missing_compiler_is_no_fault_since_nothing_compiles_unasked(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    (finding,) = (one for one in machine(Path("runs")) if one.what == "C++ compiler")
    assert (finding.status, finding.detail) == ("ok", "none; only --learner.compile on needs one")
    assert not compiling_pays("auto")


def test_a_token_that_others_can_read_is_warned_of(tmp_path):
    (tmp_path / ".ray").mkdir()
    file = tmp_path / ".ray" / "auth_token"
    file.write_text("not a real one")
    file.chmod(0o644)
    finding = token({}, tmp_path)
    assert (finding.status, finding.detail) == (
        "warning",
        f"{file} can be read by others: chmod 600 {file}",
    )
    file.chmod(0o600)
    assert token({}, tmp_path).status == "ok"
    assert token({"RAY_AUTH_TOKEN_PATH": "/none"}, tmp_path).status == "broken"


def test_a_place_that_cannot_keep_runs_is_broken(tmp_path):
    assert runs_directory(tmp_path / "new" / "runs").status in ("ok", "warning")
    assert runs_directory(Path("/proc/runs")).status == "broken"


def test_a_damaged_checkpoint_is_warned_of_on_the_terminal_and_the_one_before_taken(
    command, trained
):
    command("train", "--resume", str(trained), "--total_steps", "800")
    *_, older, newest = sorted((trained / "checkpoints").glob("step_*"))
    damaged = max(newest.iterdir(), key=lambda file: file.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    outcome = command("train", "--resume", str(trained), "--total_steps", "1200")
    assert outcome.code == 0, outcome.err
    (warning,) = [line for line in outcome.err.splitlines() if newest.name in line]
    assert warning.startswith("repertory: warning: ")
    log = (trained / "log.txt").read_text()
    assert f"resumed from {older.name}" in log
    assert newest.name in log


@pytest.mark.parametrize("name", ["evaluate", "watch"])
def test_whoever_plays_from_checkpoints_is_warned_of_damaged_ones(command, trained, name):
    command("train", "--resume", str(trained), "--total_steps", "800")
    *_, newest = sorted((trained / "checkpoints").glob("step_*"))
    (newest / "state.json").unlink()
    outcome = command(name, str(trained))
    warning, *rest = outcome.err.splitlines()
    assert warning == (
        f"repertory: warning: checkpoint {newest} is damaged: state.json is missing; "
        "taking the one before it"
    )
    # There is no picture of a count.
    assert len(rest) == (name == "watch")


def test_a_run_without_a_good_checkpoint_ends_in_one_sentence(command, trained):
    for path in (trained / "checkpoints").glob("step_*/state.json"):
        path.unlink()
    outcome = command("evaluate", str(trained))
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].endswith("is damaged: state.json is missing")
    assert outcome.err.splitlines()[-1].startswith(
        "repertory: no checkpoint in runs/first/checkpoints is good"
    )


def test_held_out_tasks_are_played_on_request_and_their_absence_is_said(command, trained):
    outcome = command("evaluate", str(trained), "--held-out")
    assert outcome.code == 2
    assert outcome.sentence == "runs/first holds no task out: name tasks with --task"
    config, protocol = RunDirectory.open(trained).read_config()
    split = config.model_copy(update={"held_out": ("counting/9",)})
    RunDirectory.open(trained).write_config(split, protocol)
    outcome = command("evaluate", str(trained), "--held-out", "--episodes", "1")
    assert outcome.code == 0, outcome.err
    assert [line.split()[:2] for line in outcome.out.splitlines() if "counting/" in line] == [
        ["counting/9", "unseen"]
    ]
