"""The table of an evaluation: returns always, successes where tasks know any."""

from __future__ import annotations

import io

from rich.console import Console

from actors.evaluator import TaskScore
from deploy.commands.evaluate import score_table


def shown(*scores: TaskScore) -> str:
    output = io.StringIO()
    Console(width=120, file=output).print(score_table(scores, {"pointmass/door"}))
    return output.getvalue()


def score(task: str, policy: str, successes: tuple[bool, ...]) -> TaskScore:
    return TaskScore(task, policy, (1.0, 3.0), (60, 60), successes, 0)


def test_successes_stand_beside_the_returns_of_each_policy() -> None:
    text = shown(
        score("pointmass/door", "greedy", (True, True)),
        score("pointmass/door", "random", (True, False)),
        score("pointmass/beyond", "greedy", ()),
    )
    assert text.splitlines()[0].split() == (
        ["task", "greedy", "return", "success", "random", "return", "success", "episodes", "steps"]
    )
    door, beyond = text.splitlines()[1:3]
    assert "2.0 ± 1.0     100%" in door
    assert door.split().count("50%") == 1
    assert "unseen" in beyond
    assert beyond.split().count("-") == 3


def test_a_task_that_the_weights_were_trained_on_before_is_not_unseen() -> None:
    scores = [score(f"pointmass/{name}", "greedy", ()) for name in ("door", "near", "beyond")]
    output = io.StringIO()
    table = score_table(scores, {"pointmass/door"}, {"pointmass/near"})
    Console(width=120, file=output).print(table)
    door, near, beyond = output.getvalue().splitlines()[1:4]
    assert "trained before" in near
    assert "unseen" in beyond
    assert "unseen" not in near + door


def test_tasks_that_know_no_success_have_no_column_for_it() -> None:
    assert "success" not in shown(score("pointmass/door", "greedy", ()))


def test_on_a_narrow_terminal_the_table_is_folded_and_nothing_cut() -> None:
    policies = ("greedy", "sampled", "random")
    scores = [
        TaskScore(task, policy, (1_134.5, 234.5), (360, 360), (), 0)
        for task in ("atari/breakout/m24d0", "atari/breakout/m40d1", "atari/breakout/m0d0")
        for policy in policies
    ]
    table = score_table(scores, {"atari/breakout/m0d0"}, {"atari/breakout/m24d0"})
    pages = []
    for width in (80, 160):
        output = io.StringIO()
        Console(width=width, file=output).print(table)
        pages.append("".join(output.getvalue().split()))
    assert sorted(pages[0]) == sorted(pages[1])
    assert "…" not in pages[0]
