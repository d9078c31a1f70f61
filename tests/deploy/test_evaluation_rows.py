"""The row that an evaluation writes beside training: scores per task, and means over the tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import counting_config, new_run, rows

from actors.evaluator import TaskScore
from deploy import build
from deploy.recorder import Recorder
from deploy.sinks import RunSinks
from repertory.metrics.jsonl import JsonlSink


def score(
    task: int, policy: str, returns: tuple[float, ...], successes: tuple[bool, ...]
) -> TaskScore:
    lengths = tuple(10 * (task + 1) for _ in returns)
    return TaskScore(f"counting/{task}", policy, returns, lengths, successes, cut=0)


def test_means_over_the_tasks_weigh_each_task_alike_and_leave_out_those_without_success(
    tmp_path: Path,
) -> None:
    config = counting_config()
    run = new_run(tmp_path, config)
    recorder = Recorder(
        config, build.tasks_of(config), run, RunSinks([JsonlSink(run.metrics)], None)
    )
    recorder.evaluation(
        600,
        5,
        [
            score(0, "greedy", (1.0, 3.0, 5.0), (True, False, False)),
            score(1, "greedy", (10.0,), (True,)),
            score(2, "greedy", (-4.0,), ()),
            score(0, "random", (0.5,), ()),
        ],
    )
    recorder.close()
    (row,) = rows(run)
    assert row["eval/greedy/return_mean"] == pytest.approx((3.0 + 10.0 - 4.0) / 3)
    assert row["eval/greedy/success_mean"] == pytest.approx((1 / 3 + 1.0) / 2)
    assert row["eval/random/return_mean"] == 0.5
    assert "eval/random/success_mean" not in row
    assert row["eval/greedy/task/counting/0/success"] == pytest.approx(1 / 3)
    assert row["eval/greedy/task/counting/1/length"] == 20.0
