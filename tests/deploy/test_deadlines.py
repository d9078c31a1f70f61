"""Deadlines of calls that contain other calls: the inner one is heard of first."""

from __future__ import annotations

from deploy.cluster import faults, learners, replay_host


def test_a_slow_checkpoint_of_a_large_replay_is_not_taken_for_a_lost_learner() -> None:
    # The driver asks the learner for its state, and the learner its replay for the contents.
    assert learners.CHECKPOINT_S > replay_host.STATE_S
    assert replay_host.STATE_S > faults.ANSWER_S
