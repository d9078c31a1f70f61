"""Held-out tasks beside the run's own in its evaluations, and evaluations before the last one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import COUNTING_TASKS, assert_same, atari_config, counting_config, new_run, rows

from deploy import cluster, local
from deploy.preflight import check
from repertory import checkpoint
from repertory.config import AtariConfig, EvaluationConfig, RunConfig
from repertory.errors import BadInput
from repertory.run_directory import RunDirectory

UNSEEN = "counting/3"
# Episodes of task i are i + 7 steps that return 0, 1, 2, ... whatever is played.
RETURNS = dict(zip((*COUNTING_TASKS, UNSEEN), (21.0, 28.0, 36.0, 45.0), strict=True))
OWN_MEAN = (21.0 + 28.0 + 36.0) / 3


def config_of(**changes: Any) -> RunConfig:
    evaluation = EvaluationConfig(
        held_out=True,
        every_steps=400,
        episodes=3,
        policies=("greedy", "random"),
        interim_episodes=2,
        interim_policies=("greedy",),
        lanes=4,
    )
    return counting_config(held_out=(UNSEEN,), **({"evaluation": evaluation} | changes))


def evaluations(run: RunDirectory) -> list[dict[str, Any]]:
    return [row for row in rows(run) if any(name.startswith("eval/") for name in row)]


def check_scores(row: dict[str, Any], policies: tuple[str, ...]) -> None:
    """Check that a row has all four tasks under these policies, and means that are apart."""
    names = {name for name in row if name.startswith("eval/")}
    expected: dict[str, float] = {}
    for policy in policies:
        for task, value in RETURNS.items():
            expected[f"eval/{policy}/task/{task}/return"] = value
            expected[f"eval/{policy}/task/{task}/length"] = int(task[-1]) + 7
        expected[f"eval/{policy}/return_mean"] = OWN_MEAN
        expected[f"eval/{policy}/held_out/return_mean"] = RETURNS[UNSEEN]
    assert {name: row[name] for name in names} == expected


def test_held_out_tasks_are_scored_beside_training_and_have_a_mean_of_their_own(
    tmp_path: Path,
) -> None:
    config = config_of()
    run = new_run(tmp_path, config)
    assert local.train(config, run, False) == 0
    interim, last = evaluations(run)[:-1], evaluations(run)[-1]
    # After 400 and 800 steps; after 1,200 training ends, and what ends it is not played twice.
    assert [row["env_steps"] // 400 for row in interim] == [1, 2]
    for row in interim:
        check_scores(row, ("greedy",))
    check_scores(last, ("greedy", "random"))
    assert last["env_steps"] >= config.total_steps
    files = [json.loads(path.read_text()) for path in sorted(run.evaluations.glob("*.json"))]
    assert [{len(score["returns"]) for score in one["scores"]} for one in files] == [{2}, {2}, {3}]
    unseen = {score["task"] for one in files for score in one["scores"] if not score["trained_on"]}
    assert unseen == {UNSEEN}
    assert not any(f"task/{UNSEEN}/" in name for row in rows(run) for name in row if name[0] == "t")


def test_training_is_the_same_to_the_bit_whatever_is_evaluated(tmp_path: Path) -> None:
    states = []
    plain = EvaluationConfig(at_end=False)
    for name, config in (("with", config_of()), ("without", config_of(evaluation=plain))):
        run = new_run(tmp_path, config, name)
        assert local.train(config, run, False) == 0
        state, _, _ = checkpoint.load_latest(run.checkpoints)
        states.append({part: state[part] for part in ("learner", "weights", "workers", "counters")})
    assert_same(*states)


def test_the_table_at_the_end_of_a_run_marks_what_was_never_trained_on(
    command: Any,
) -> None:
    ended = command(
        *("train", "debug-counting", "--held_out", UNSEEN, "--evaluation.held_out", "true"),
        *("--total_steps", "300", "--actors.count", "1"),
    )
    assert ended.code == 0
    lines = [line.split() for line in ended.out.splitlines() if line.startswith("counting/")]
    assert [line[0] for line in lines if "unseen" in line] == [UNSEEN]
    assert [line[0] for line in lines] == [*COUNTING_TASKS, UNSEEN]


@pytest.mark.slow
def test_the_evaluator_beside_a_cluster_s_learner_plays_held_out_tasks_too(tmp_path: Path) -> None:
    config = config_of(runtime="cluster")
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    *interim, last = evaluations(run)
    for row in interim:
        check_scores(row, ("greedy",))
    check_scores(last, ("greedy", "random"))
    assert last["env_steps"] >= config.total_steps


def test_unseen_tasks_that_the_network_cannot_play_are_refused_before_anything_is_started() -> None:
    games = AtariConfig(full_action_space="auto")
    config = atari_config(
        environment=games,
        held_out=("atari/seaquest/m0d0",),
        evaluation=EvaluationConfig(held_out=True),
    )
    with pytest.raises(BadInput, match=r"evaluation\.held_out: atari/seaquest/m0d0 cannot be play"):
        check(config)
    assert check(config.model_copy(update={"evaluation": EvaluationConfig()})).held_out


def test_a_run_that_holds_nothing_out_is_told_that_nothing_more_is_played() -> None:
    config = counting_config(evaluation=EvaluationConfig(held_out=True))
    (warning,) = check(config).warnings
    assert warning.startswith("evaluation.held_out plays no further task")
    assert not check(config_of()).warnings
