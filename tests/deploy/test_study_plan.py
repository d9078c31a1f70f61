"""A study's jobs, and the ledger of how far they have come."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import finetune
from deploy.commands.train import Options
from deploy.overrides import options, resolve, scan
from deploy.preflight import check
from deploy.schema import settings_of
from deploy.study.ledger import Ledger
from deploy.study.plan import Job, canonical, jobs_of
from envs.registry import training_tasks
from repertory.config import EvaluationConfig, RunConfig
from repertory.errors import BadInput
from repertory.recipes import get
from repertory.recipes.studies import STUDIES, get_study

DEBUG = get_study("study-debug")


def config_of(job: Job) -> RunConfig:
    """Return what a pre-training job trains, as the command line reads it."""
    texts, words = scan(job.words[1:], [*settings_of(Options), *settings_of(RunConfig)])
    names = {setting.path for setting in settings_of(Options)}
    assert options(Options, {k: v for k, v in texts.items() if k in names}).name == job.name
    return resolve(get(words[0]).config, (), {k: v for k, v in texts.items() if k not in names})


@pytest.mark.parametrize("name", STUDIES)
def test_every_agent_of_a_study_is_pre_trained_on_as_many_steps_and_never_on_what_is_held_out(
    name: str,
) -> None:
    study = get_study(name)
    configs = [config_of(job) for job in jobs_of(study, 2) if job.kind == "pretrain"]
    assert len(configs) == 2 * len(study.pretraining)
    assert {config.total_steps for config in configs} == {study.pretraining_steps}
    assert [len(training_tasks(config)) for config in configs[: len(study.pretraining)]] == [
        len(tasks) for tasks in study.pretraining
    ]
    for config in configs:
        assert not set(training_tasks(config)) & set(study.held_out)
        plan = check(config)
        assert plan.held_out == study.held_out
        assert plan.warnings == ()


def test_every_agent_is_tried_on_every_held_out_task_in_every_way_with_every_seed() -> None:
    study = get_study("study-breakout-small")
    jobs = jobs_of(study, 3)
    assert len({job.name for job in jobs}) == len(jobs) == 33
    kinds = [job.kind for job in jobs]
    assert [kinds.count(kind) for kind in ("pretrain", "finetune", "scratch")] == [9, 18, 6]
    before: set[str] = set()
    for job in jobs:
        assert set(job.needs) <= before
        before.add(job.name)


def test_more_seeds_add_jobs_and_change_none(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "study", DEBUG.name, jobs_of(DEBUG, 1))
    ledger.directory.mkdir()
    ledger.set(ledger.jobs[0], status="done", seconds=3.0)
    more = Ledger(tmp_path / "study", DEBUG.name, jobs_of(DEBUG, 2))
    assert [job.name for job in more.of("done")] == [ledger.jobs[0].name]
    assert len(more.jobs) == 2 * len(ledger.jobs)
    more.write()
    fewer = Ledger(tmp_path / "study", DEBUG.name, jobs_of(DEBUG, 1))
    fewer.write()
    assert len(json.loads((tmp_path / "study" / "study.json").read_text())["jobs"]) == 10


def test_what_was_cut_short_or_failed_waits_again_and_what_is_done_does_not(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "study", DEBUG.name, jobs_of(DEBUG, 1))
    ledger.directory.mkdir()
    for job, status in zip(ledger.jobs, ("done", "running", "failed", "trained"), strict=False):
        ledger.set(job, status=status, error="it did not work")
    again = Ledger(tmp_path / "study", DEBUG.name, jobs_of(DEBUG, 1))
    statuses = [again.progress[job.name].status for job in again.jobs]
    assert statuses == ["done", "waiting", "waiting", "trained", "waiting"]
    # What is of the second agent needs its pre-training first, but that is not done.
    assert [job.name for job in again.ready()] == [
        "pretrain-2-seed1",
        "finetune-1-3-seed1",
        "scratch-3-seed1",
    ]


def test_an_interrupted_run_goes_on_and_one_without_scores_is_evaluated(tmp_path: Path) -> None:
    (job,) = (job for job in jobs_of(DEBUG, 1) if job.kind == "scratch")
    begun = job.command(tmp_path, begun=False, trained=False)
    assert begun[:2] == ["finetune", f"{tmp_path}/pretrain-1-seed1"]
    on = job.command(tmp_path, begun=True, trained=False)
    assert on[:5] == ["train", "--resume", "auto", "--runs_dir", str(tmp_path)]
    scored = job.command(tmp_path, begun=True, trained=True)
    assert scored == ["evaluate", f"{tmp_path}/scratch-3-seed1", "--task", "counting/3"]


def test_a_directory_of_another_study_is_refused_in_one_sentence(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, DEBUG.name, jobs_of(DEBUG, 1))
    ledger.write()
    small = get_study("study-breakout-small")
    with pytest.raises(BadInput, match="is of the study study-debug, not study-breakout-small"):
        Ledger(tmp_path, small.name, jobs_of(small, 1))
    longer = replace(DEBUG, pretraining_steps=700)
    with pytest.raises(BadInput, match=r"was planned with other settings \(pretrain-1-seed1"):
        Ledger(tmp_path, DEBUG.name, jobs_of(longer, 1))


def test_a_directory_with_other_files_is_no_study_s(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("\\end{document}")
    with pytest.raises(BadInput, match="it has files and no study"):
        Ledger(tmp_path, DEBUG.name, jobs_of(DEBUG, 1))
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(BadInput, match=r"study\.json cannot be read"):
        Ledger(tmp_path, DEBUG.name, jobs_of(DEBUG, 1))


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_is_evaluated_along_its_way_and_pre_trained_ones_on_what_is_held_out(
    name: str,
) -> None:
    study = get_study(name)
    for job in jobs_of(study, 1):
        own = Options if job.words[0] == "train" else finetune.Options
        texts, _ = scan(job.words[2:], [*settings_of(own), *settings_of(RunConfig)])
        steps, every = int(texts["total_steps"][0]), int(texts["evaluation.every_steps"][0])
        assert steps == job.steps
        evaluation = EvaluationConfig(every_steps=every)
        assert evaluation.due(steps - 1, steps) == study.evaluations
        # What training plays beyond its last step is not evaluated twice.
        assert evaluation.due(steps + 5000, steps) == 0
        if job.kind == "pretrain":
            config = config_of(job)
            assert config.evaluation.held_out
            assert config.evaluation.interim_policies == (study.policy,)
            assert study.policy in config.evaluation.policies
            assert config.evaluation.interim_episodes == study.interim_episodes
            assert set(job.scored) == {*training_tasks(config), *study.held_out}


def test_settings_go_to_every_run_and_over_the_study_s_own() -> None:
    given = canonical(("--evaluation.every-steps=50", "--actors.lanes", "12", "--actors.lanes=18"))
    assert given == ("--actors.lanes", "18", "--evaluation.every_steps", "50")
    for job in jobs_of(DEBUG, 1, given):
        assert " ".join(job.words).count("--evaluation.every_steps 50") == 1
        if job.kind == "pretrain":
            config = config_of(job)
            assert (config.actors.lanes, config.evaluation.every_steps) == (18, 50)
    small = get_study("study-breakout-small")
    (first, *_) = jobs_of(small, 1, ("--runtime", "cluster"))
    assert config_of(first).runtime == "cluster"
    assert config_of(first).checkpoint.every_updates == 500


@pytest.mark.parametrize("flag", ["--tasks", "--seed", "--total_steps", "--initial.parent"])
def test_what_the_study_chooses_is_no_setting_of_its_runs(flag: str) -> None:
    with pytest.raises(BadInput, match=f"{flag[2:]} is chosen by the study"):
        canonical((flag, "7"))


def test_settings_are_kept_with_a_study_and_others_are_refused(
    tmp_path: Path, command: Any
) -> None:
    lanes = ("--actors.lanes", "12")
    directory = tmp_path / "study"
    directory.mkdir()
    Ledger(directory, DEBUG.name, jobs_of(DEBUG, 1, lanes), lanes).write()
    words = ("study", DEBUG.name, "--dir", "study", "--seeds", "1", "--dry_run")
    for again in (words, (*words, *lanes)):
        listed = command(*again)
        assert listed.code == 0
        assert listed.out.count("--actors.lanes 12") == 2
    refused = command(*words, "--actors.lanes", "18")
    assert (refused.code, refused.files) == (2, [])
    assert refused.sentence == (
        "study was planned with other settings than --actors.lanes 18, with the settings "
        "--actors.lanes 12: give the same, or choose another --dir"
    )
    # A study that was begun without settings goes on without.
    plain = tmp_path / "plain"
    plain.mkdir()
    Ledger(plain, DEBUG.name, jobs_of(DEBUG, 1)).write()
    late = command("study", DEBUG.name, "--dir", "plain", "--seeds", "1", *lanes)
    assert (late.code, late.files) == (2, [])
    assert "than --actors.lanes 12, with none" in late.sentence


def test_a_plan_of_an_earlier_version_that_knows_no_settings_is_one_without(tmp_path: Path) -> None:
    Ledger(tmp_path, DEBUG.name, jobs_of(DEBUG, 1)).write()
    file = tmp_path / "study.json"
    content = json.loads(file.read_text())
    del content["settings"]
    file.write_text(json.dumps(content))
    assert Ledger(tmp_path, DEBUG.name, jobs_of(DEBUG, 1)).settings == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"words": None}, "words of pretrain-1-seed1 are no list"),
        ({"progress": None}, "TypeError"),
        ({"progress": {"status": "lost"}}, "has the status 'lost'"),
        ({"progress": {"status": "done", "mood": "good"}}, "mood"),
    ],
)
def test_a_damaged_job_in_the_plan_is_told_of_in_one_sentence(
    tmp_path: Path, command: Any, change: dict[str, Any], said: str
) -> None:
    directory = tmp_path / "study"
    directory.mkdir()
    Ledger(directory, DEBUG.name, jobs_of(DEBUG, 1)).write()
    file = directory / "study.json"
    content = json.loads(file.read_text())
    for damaged in ({**content["jobs"][0], **change}, {"name": "pretrain-1-seed1"}, "no job"):
        file.write_text(json.dumps({**content, "jobs": [damaged]}))
        refused = command("study", DEBUG.name, "--dir", "study", "--dry_run")
        assert (refused.code, refused.files) == (2, [])
        assert refused.sentence.startswith("study/study.json is damaged (")
        if isinstance(damaged, dict) and "kind" in damaged:
            assert said in refused.sentence


def test_a_file_is_no_place_for_a_study_nor_for_a_list_of_its_jobs(
    tmp_path: Path, command: Any
) -> None:
    (tmp_path / "notes").write_text("not a directory")
    for more in ((), ("--dry_run",)):
        refused = command("study", DEBUG.name, "--dir", "notes", *more)
        assert (refused.code, refused.sentence) == (2, "notes is a file: choose another --dir")


def test_agents_of_a_study_that_would_have_one_name_are_no_study() -> None:
    with pytest.raises(ValueError, match=r"pre-trained on \[1, 1\] tasks"):
        replace(DEBUG, pretraining=(("counting/0",), ("counting/1",)))


@pytest.mark.parametrize(
    ("address", "said"),
    [("the-head", "'the-head' is not HOST:PORT"), ("127.0.0.1:9", "no Ray cluster answers at")],
)
def test_a_cluster_that_cannot_be_reached_is_told_of_before_anything_is_written(
    command: Any, address: str, said: str
) -> None:
    refused = command("study", DEBUG.name, "--address", address)
    assert refused.code != 0
    assert refused.files == []
    assert said in refused.sentence
