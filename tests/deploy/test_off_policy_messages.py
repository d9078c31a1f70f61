"""What can be wrong about an off-policy run is said in one sentence before anything starts."""

from __future__ import annotations

import pytest

# Dry, so that a mistake that slips through costs a second and not a run.
CTPG = ("train", "pointmass-ctpg", "--dry-run")

WRONG = {
    "a replay smaller than a batch": (
        [*CTPG, "--replay.capacity", "100", "--learner.batch_size", "192"],
        "replay.capacity 100 is too small for learner.batch_size 192 and 3 tasks with windows of "
        "12 steps: make it at least 192",
    ),
    "a replay without a whole window": (
        [*CTPG, "--replay.capacity", "30", "--learner.batch_size", "3"],
        "replay.capacity 30 is too small for learner.batch_size 3 and 3 tasks with windows of "
        "12 steps: make it at least 36",
    ),
    "a batch that the tasks cannot share": (
        [*CTPG, "--learner.batch_size", "100"],
        "learner.batch_size 100 is not a multiple of the 3 tasks, which share it equally: "
        "99 or 102 would be",
    ),
    "a batch of fewer rows than tasks": (
        [*CTPG, "--learner.batch_size", "2"],
        "learner.batch_size 2 is not a multiple of the 3 tasks, which share it equally: 3 would be",
    ),
    "a choice that outlasts its episode": (
        [*CTPG, "--environment.horizon", "11"],
        "algorithm.guide.step 12 is longer than an episode (environment.horizon 11)",
    ),
    "exploration that uses up the budget": (
        [*CTPG, "--algorithm.exploration_steps", "1000", "--total_steps", "3000"],
        "algorithm.exploration_steps 1000 for each of 3 tasks uses up total_steps 3000, so nothing "
        "would be learned",
    ),
    "temperatures that TD3 has not": (
        ["train", "mt10-mttd3-ctpg", "--algorithm.guide.block", "temperature"],
        "algorithm.guide.block temperature needs temperatures, which td3 has not: "
        "use success or none",
    ),
    "a point mass that is not there": (
        [*CTPG, "--tasks", "pointmass/dor"],
        "unknown task 'pointmass/dor'. Did you mean 'pointmass/door'?",
    ),
    "a Meta-World task that is not there": (
        ["train", "metaworld-small", "--tasks", "metaworld/reech"],
        "unknown task 'metaworld/reech'. Did you mean 'reach'?",
    ),
    "a HalfCheetah that is not there": (
        ["train", "halfcheetah-mt5-small", "--tasks", "halfcheetah/gravity-haf"],
        "unknown task 'halfcheetah/gravity-haf'. Did you mean 'halfcheetah/gravity-half'?",
    ),
    "a suite that is not there": (
        [*CTPG, "--tasks", "pointmas/mt3"],
        "unknown task 'pointmas/mt3': no suite is called 'pointmas'. Did you mean 'pointmass'?",
    ),
    "tasks of two suites": (
        [*CTPG, "--tasks", "pointmass/mt3", "metaworld/reach"],
        "'metaworld/reach' is of the suite metaworld, but environment.suite is pointmass; "
        "a run's tasks are all of one suite",
    ),
    "continuous actions for a game with an image network": (
        ["train", "quickstart", "--algorithm.kind", "sac"],
        "algorithm.kind sac needs network.torso mlp, not shallow",
    ),
    "continuous actions for a game": (
        ["train", "quickstart", "--algorithm.kind", "sac", "--network.torso", "mlp"],
        "algorithm.kind sac plays continuous actions, but those of atari/breakout/m0d0 are "
        "discrete: use --algorithm.kind vtrace or ppo",
    ),
    "discrete actions for points": (
        ["train", "pointmass", "--algorithm.kind", "vtrace"],
        "algorithm.kind vtrace plays discrete actions, but those of pointmass/door are "
        "continuous: use --algorithm.kind sac or td3",
    ),
    "heads per task on policy": (
        ["train", "quickstart", "--network.heads", "per_task"],
        "network.heads per_task is for algorithm.kind sac and td3, not vtrace",
    ),
    "memory off policy": (
        [*CTPG, "--network.lstm", "8"],
        "algorithm.kind sac has neither LSTM nor PopArt: leave both off",
    ),
    "a learned embedding off policy": (
        [*CTPG, "--network.conditioning", "embedding"],
        "algorithm.kind sac takes network.conditioning none or one_hot",
    ),
    "a misspelt guide": (
        [*CTPG, "--algorithm.guide.kind", "ctgp"],
        "algorithm.guide.kind: expected one of none, ctpg, qmp, bpt, got 'ctgp'. "
        "Did you mean 'ctpg'?",
    ),
    "a guide on policy": (
        ["train", "quickstart", "--algorithm.guide.kind", "ctpg"],
        "setting 'algorithm.guide.kind' belongs to algorithm.kind sac",
    ),
    "no ratio": (
        [*CTPG, "--replay.samples_per_insert", "0"],
        "replay.samples_per_insert: expected a number above 0, got '0'.",
    ),
    "no choice to last": (
        [*CTPG, "--algorithm.guide.step", "0"],
        "algorithm.guide.step: expected an integer above 0, got '0'.",
    ),
    "a place that is not there": (
        [*CTPG, "--replay.place", "proces"],
        "replay.place: expected one of learner, process, got 'proces'. Did you mean 'process'?",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_ends_in_one_sentence_and_code_2_and_writes_nothing(command, name):
    tokens, sentence = WRONG[name]
    outcome = command(*tokens)
    assert outcome.sentence.startswith(sentence)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.files == []


def test_a_replay_larger_than_the_machine_is_named_as_what_to_lower(command):
    outcome = command(*CTPG, "--replay.capacity", "100000000000")
    assert outcome.code == 2
    assert "the run needs about " in outcome.sentence
    assert "lower replay.capacity (100000000000)" in outcome.sentence


def test_guidance_with_nobody_to_guide_is_warned_of(command):
    outcome = command(*CTPG, "--tasks", "pointmass/door", "--learner.batch_size", "64")
    assert outcome.code == 0
    assert "lends the policies of other tasks, and this run has one task" in outcome.err
