"""The chaos run's books: what they find wrong, and a short run that they find right."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import chaos


def row(**changes: float) -> dict[str, Any]:
    whole: dict[str, Any] = {"env_steps": 30, "updates": 5}
    for task, mean in enumerate((21.0, 28.0, 36.0)):
        whole |= {f"task/counting/{task}/steps": 10, f"task/counting/{task}/return": mean}
    return whole | changes


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([row(), row()], []),
        ([row(), row(**{"task/counting/1/steps": 11})], ["add up to 31"]),
        ([row(), row(**{"task/counting/2/return": 35.5})], ["counting/2 was not whole"]),
        ([row(env_steps=99), row()], ["behind where it had been"]),
        ([row(), row(**{"learner/nonfinite_updates": 1})], ["not finite"]),
    ],
)
def test_the_books_name_what_is_wrong(rows: list[dict[str, Any]], wrong: list[str]) -> None:
    found = chaos.faults_in_the_books(rows)
    assert len(found) == len(wrong)
    for sentence, part in zip(found, wrong, strict=True):
        assert part in sentence


@pytest.mark.slow
def test_a_minute_of_chaos_leaves_the_books_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaos.main(["--minutes", "1", "--seed", "3"]) == 0
    assert "killed" in capsys.readouterr().out
