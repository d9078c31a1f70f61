"""What a study found: the mean return of every held-out task, zero-shot, fine-tuned, from scratch.

Axes: S seeds.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.report.evaluations import read_evaluations
from deploy.study.ledger import Ledger
from deploy.study.plan import Job, Kind
from repertory.recipes.studies import Study

if TYPE_CHECKING:
    from rich.table import Table


def is_scored(directory: Path, job: Job) -> bool:
    """Whether the job's run was evaluated, after its last step, on all that it must be."""
    found = read_evaluations(directory / job.name / "evaluations")
    ended = {one.task for one in found if one.env_steps >= job.steps}
    return ended.issuperset(job.scored)


def task_return(run: Path, task: str, policy: str | None = None) -> float | None:
    """Return a run's mean return on a task by its newest evaluation of it; None without one."""
    newest = read_evaluations(run / "evaluations")
    means = [o.mean for o in newest if o.task == task and policy in (None, o.policy)]
    return means[0] if means else None


def returns(ledger: Ledger, kind: Kind, task: str, variants: int, policy: str) -> list[float]:
    """Return one mean return per seed of the jobs that are done."""
    found = [
        task_return(ledger.directory / job.name, task, policy)
        for job in ledger.of("done")
        if job.kind == kind and job.variants == variants and task in job.scored
    ]
    return [value for value in found if value is not None]


def outcome_table(ledger: Ledger, study: Study) -> Table:
    """Return a row per held-out task and number of variants pre-trained on."""
    from rich.table import Table

    from deploy.table_console import longest_word

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("held-out task", no_wrap=True)
    table.add_column("variants", justify="right", no_wrap=True, min_width=8)
    random = {task: returns(ledger, "scratch", task, 0, "random") for task in study.held_out}
    floor = ["random play"] if any(random.values()) else []
    for title in ("zero-shot", "fine-tuned", "from scratch", *floor):
        # Folded where a terminal is narrow: cut, a mean could lose what it is of.
        table.add_column(title, justify="right", min_width=longest_word(title))
    for task in study.held_out:
        scratch = returns(ledger, "scratch", task, 0, study.policy)
        for tasks in study.pretraining:
            count = len(tasks)
            table.add_row(
                task,
                str(count),
                _shown(returns(ledger, "pretrain", task, count, study.policy)),
                _shown(returns(ledger, "finetune", task, count, study.policy)),
                _shown(scratch),
                *([_shown(random[task])] if floor else []),
            )
    return table


def _shown(values: list[float]) -> str:
    """Return the mean over seeds with half of its 95 % interval, from three on, and how many."""
    if not values:
        return "-"
    import numpy as np

    from repertory.scores.aggregates import student_interval

    half = float(student_interval(np.array(values, np.float64)))
    error = "" if math.isnan(half) else f" ± {half:.1f}"
    return f"{sum(values) / len(values):,.1f}{error} ({len(values)})"
