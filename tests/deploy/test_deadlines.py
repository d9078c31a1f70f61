"""Deadlines of calls that contain other calls: the inner one is heard of first."""

from __future__ import annotations

import ast
from pathlib import Path

import deploy
from deploy.cluster import faults, learners, replay_host


def test_a_slow_checkpoint_of_a_large_replay_is_not_taken_for_a_lost_learner() -> None:
    # The driver asks the learner for its state, and the learner its replay for the contents.
    assert learners.CHECKPOINT_S > replay_host.STATE_S
    assert replay_host.STATE_S > faults.ANSWER_S


def test_every_answer_of_another_process_is_awaited_with_a_deadline() -> None:
    bare = []
    for file in sorted(Path(deploy.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(call, ast.Call)
                and ast.unparse(call.func) == "ray.get"
                and "timeout" not in {keyword.arg for keyword in call.keywords}
            ):
                bare.append(f"{file.name}:{call.lineno}")
    # A node that falls silent without a word answers never.
    assert bare == []
