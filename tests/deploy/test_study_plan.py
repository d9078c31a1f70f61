"""A study's jobs, and the ledger of how far they have come."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.commands.train import Options
from deploy.overrides import options, resolve, scan
from deploy.preflight import check
from deploy.schema import settings_of
from deploy.study.ledger import Ledger
from deploy.study.plan import Job, jobs_of
from envs.registry import training_tasks
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.recipes import get
from repertory.recipes.studies import STUDIES, get_study

DEBUG = get_study("study-debug")


def config_of(job: Job) -> RunConfig:
    """Return what a pre-training job trains, as the command line reads it."""
    texts, words = scan(job.words[1:], [*settings_of(Options), *settings_of(RunConfig)])
    names = {setting.path for setting in settings_of(Options)}
    assert options(Options, {k: v for k, v in texts.items() if k in names}).name == job.run
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
    assert len({job.name for job in jobs}) == len(jobs) == 42
    kinds = [job.kind for job in jobs]
    counts = [kinds.count(kind) for kind in ("pretrain", "zero-shot", "finetune", "scratch")]
    assert counts == [9, 9, 18, 6]
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
    assert len(json.loads((tmp_path / "study" / "study.json").read_text())["jobs"]) == 14


def test_what_was_cut_short_or_failed_waits_again_and_what_is_done_does_not(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "study", DEBUG.name, jobs_of(DEBUG, 1))
    ledger.directory.mkdir()
    for job, status in zip(ledger.jobs, ("done", "running", "failed", "trained"), strict=False):
        ledger.set(job, status=status, error="it did not work")
    again = Ledger(tmp_path / "study", DEBUG.name, jobs_of(DEBUG, 1))
    statuses = [again.progress[job.name].status for job in again.jobs[:5]]
    assert statuses == ["done", "waiting", "waiting", "trained", "waiting"]
    # What is of the second agent needs its pre-training first, but that is not done.
    assert all(job.variants < 2 or job.kind == "pretrain" for job in again.ready())
    assert {"pretrain-2-seed1", "zero-shot-1-seed1", "scratch-3-seed1"} <= {
        job.name for job in again.ready()
    }


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
