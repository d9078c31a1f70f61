"""The table at the end of a study: which evaluations it reads, and what it makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.study.ledger import Ledger
from deploy.study.outcome import is_scored, outcome_table, task_return
from deploy.study.plan import jobs_of
from repertory.recipes.studies import get_study

STUDY = get_study("study-debug")
TASK = "counting/3"


def score(task: str, mean: float, policy: str = "greedy") -> dict[str, Any]:
    return {"task": task, "policy": policy, "mean": mean, "returns": [mean - 1.0, mean + 1.0]}


def evaluated(run: Path, step: int, *scores: dict[str, Any]) -> None:
    folder = run / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"env_steps": step, "scores": scores}
    (folder / f"step_{step:012d}-x.json").write_text(json.dumps(content))


def test_the_newest_evaluation_of_a_task_counts_and_others_do_not_hide_it(tmp_path: Path) -> None:
    evaluated(tmp_path, 5, score(TASK, 1.0))
    evaluated(tmp_path, 6, score(TASK, 2.0), score(TASK, 9.0, "random"))
    evaluated(tmp_path, 7, score("counting/0", 3.0))
    assert task_return(tmp_path, TASK, "greedy") == 2.0
    assert task_return(tmp_path, TASK, "sampled") is None
    assert task_return(tmp_path, "counting/1") is None


def test_a_damaged_evaluation_is_passed_over_and_the_one_before_it_counts(tmp_path: Path) -> None:
    evaluated(tmp_path, 5, score(TASK, 1.0))
    evaluated(tmp_path, 6, score(TASK, 2.0))
    damaged = tmp_path / "evaluations" / "step_000000000006-x.json"
    damaged.write_text(damaged.read_text()[:40])
    assert task_return(tmp_path, TASK) == 1.0
    damaged.write_text(json.dumps({"env_steps": 6, "scores": ["not a score"]}))
    assert task_return(tmp_path, TASK) == 1.0


def test_a_run_is_scored_by_an_evaluation_after_its_last_step_on_all_that_it_must_be(
    tmp_path: Path,
) -> None:
    (job, *_) = (job for job in jobs_of(STUDY, 1) if job.kind == "pretrain")
    assert job.scored == ("counting/0", TASK)
    run = tmp_path / job.name
    evaluated(run, job.steps - 1, score("counting/0", 1.0), score(TASK, 1.0))
    evaluated(run, job.steps, score("counting/0", 1.0))
    assert not is_scored(tmp_path, job)
    evaluated(run, job.steps + 7, score("counting/0", 1.0), score(TASK, 1.0))
    assert is_scored(tmp_path, job)


def test_the_table_has_the_mean_over_seeds_with_student_s_interval(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "study", STUDY.name, jobs_of(STUDY, 3))
    ledger.directory.mkdir()
    base = {"pretrain": 10.0, "finetune": 20.0, "scratch": 30.0}
    for job in ledger.jobs:
        mean = base[job.kind] + 100.0 * job.variants + job.seed
        scores = [score(TASK, mean), score(TASK, 1.0, "random")]
        evaluated(ledger.directory / job.name, job.steps, *scores)
        ledger.set(job, status="done")
    console = Console(width=200)
    with console.capture() as captured:
        console.print(outcome_table(ledger, STUDY))
    lines = [line.split() for line in captured.get().splitlines()]
    # Folded on a narrow terminal, with nothing cut off.
    console = Console(width=80)
    with console.capture() as narrow:
        console.print(outcome_table(ledger, STUDY))
    assert sorted("".join(narrow.get().split())) == sorted("".join(captured.get().split()))
    # Deviation 1 over 3 seeds: 4.303 / sqrt(3) on each side.
    half = ["±", "2.5", "(3)"]
    floor = ["1.0", "±", "0.0", "(3)"]
    assert lines[1:] == [
        [TASK, "1", "112.0", *half, "122.0", *half, "32.0", *half, *floor],
        [TASK, "2", "212.0", *half, "222.0", *half, "32.0", *half, *floor],
    ]


def test_two_seeds_have_no_interval_as_in_a_report(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "study", STUDY.name, jobs_of(STUDY, 2))
    ledger.directory.mkdir()
    for job in ledger.jobs:
        evaluated(ledger.directory / job.name, job.steps, score(TASK, 10.0 + job.seed))
        ledger.set(job, status="done")
    assert list(outcome_table(ledger, STUDY).columns[3].cells) == ["11.5 (2)", "11.5 (2)"]


def test_what_is_not_done_has_no_place_in_the_table(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "study", STUDY.name, jobs_of(STUDY, 1))
    ledger.directory.mkdir()
    for job in ledger.jobs:
        evaluated(ledger.directory / job.name, 1, score(TASK, 7.0))
    cells = list(outcome_table(ledger, STUDY).columns[3].cells)
    assert cells == ["-", "-"]
    ledger.set(next(job for job in ledger.jobs if job.kind == "finetune"), status="done")
    assert list(outcome_table(ledger, STUDY).columns[3].cells) == [
        "7.0 (1)",
        "-",
    ]
