"""Choosers pick among whom they should, and the planted best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from acting_agents import (
    SIZE,
    RewardingLanes,
    box_tasks,
    control,
    guided,
    guided_config,
    plant_constant_policies,
    plant_guide,
    plant_values,
    unroller_of,
    weights_of,
)

from actors.guidance import CtpgChooser, GuidedPolicy, guided_policy
from actors.unroller import Unroller
from repertory.types import Unroll


def _choices(policy: GuidedPolicy, task: Sequence[int]) -> np.ndarray:
    """Let lanes that have just started choose once."""
    count = len(task)
    return policy.act(
        np.zeros((count, SIZE), np.float32),
        np.array(task, np.int32),
        np.zeros((count, 0), np.float32),
        np.ones(count, np.bool_),
    ).guide


def _counted(policy: GuidedPolicy, name: str) -> list[int]:
    """Return one of the counts since the last call, per task."""
    counts: list[int] = getattr(policy.guidance(), name).tolist()
    return counts


def test_passed_candidates_and_fallbacks_are_counted_as_one_row_after_another() -> None:
    own, policy = guided(guided_config(kind="ctpg"))
    # Task 0 may follow 1 and 2, task 1 nobody, task 2 all.
    worth = [[[0.0, 6.0, 7.0], [1.0, 2.0, 3.0], [9.0] * 3]] * 2
    plant_values(own.agent, [[5.0, 4.0, 3.0]] * 2, worth)
    tasks = [2, 0, 1, 1, 0, 0]
    _choices(policy, tasks)
    counted = policy.guidance()
    assert counted is not None
    passing = {0: 2, 1: 0, 2: 3}
    for task in range(3):
        rows = [one for one in tasks if one == task]
        assert counted.choices[task] == len(rows)
        assert counted.candidates[task] == 3 * len(rows)
        assert counted.passed[task] == sum(passing[one] for one in rows)
        assert counted.fallbacks[task] == sum(passing[one] == 0 for one in rows)


def test_choices_follow_the_guide_among_those_worth_at_least_the_own_policy() -> None:
    own, policy = guided(guided_config(kind="ctpg"))
    plant_guide(own.agent, [[0.0] * 3, [1.0, 2.0, 3.0], [0.0] * 3])
    # Candidate 0 is worth more than task 1's own policy, the others less.
    worth = [[[0.0] * 3, [6.0, 4.0, 4.9], [0.0] * 3]] * 2
    plant_values(own.agent, [[0.0, 5.0, 0.0]] * 2, worth)
    assert set(_choices(policy, [1] * 500).tolist()) == {0}


@pytest.mark.parametrize(("mode", "masked"), [("on", True), ("fallback_only", False)])
def test_guide_choices_are_drawn_from_the_masked_distribution_only_if_the_mask_is_on(
    mode: str, masked: bool
) -> None:
    own, policy = guided(guided_config(kind="ctpg", policy_filter=mode))
    logits = np.array([1.0, 2.0, 3.0])
    plant_guide(own.agent, [logits.tolist()] * 3)
    plant_values(own.agent, [[5.0] * 3] * 2, [[[6.0, 4.0, 6.0]] * 3] * 2)
    count = 6000
    seen = np.bincount(_choices(policy, [1] * count), minlength=3)
    passed = np.array([True, False, True]) if masked else np.ones(3, np.bool_)
    chances = np.where(passed, np.exp(logits), 0.0)
    expected = (count * chances / chances.sum())[passed]
    assert seen[~passed].sum() == 0
    assert float(((seen[passed] - expected) ** 2 / expected).sum()) < 13.8


def test_lanes_whose_task_finds_nobody_worth_following_follow_themselves() -> None:
    for mode in ("on", "fallback_only"):
        own, policy = guided(guided_config(kind="ctpg", policy_filter=mode))
        plant_values(own.agent, [[5.0] * 3] * 2, [[[4.0] * 3] * 3] * 2)
        assert _choices(policy, [2, 0, 1, 1]).tolist() == [2, 0, 1, 1]
        counted = policy.guidance()
        assert counted is not None
        assert counted.choices.tolist() == counted.fallbacks.tolist() == [1, 2, 1]
        assert counted.candidates.tolist() == [3, 6, 3]
        assert counted.passed.tolist() == [0, 0, 0]
        assert counted.trials.tolist() == [0, 0, 0]
        assert _counted(policy, "choices") == [0, 0, 0]


def test_twins_are_joined_alike_on_both_sides_of_the_filter() -> None:
    # By the means 5 <= 6, by the minima 4 > 3.
    own_twins, worth_twins = [[4.0] * 3, [6.0] * 3], [[[3.0] * 3] * 3, [[9.0] * 3] * 3]
    for twins, fallback in (("mean", 0), ("min", 1)):
        own, policy = guided(guided_config(kind="ctpg", filter_twins=twins))
        plant_values(own.agent, own_twins, worth_twins)
        _choices(policy, [0, 1, 2])
        assert _counted(policy, "fallbacks") == [fallback] * 3


def test_the_filter_sets_in_at_its_version() -> None:
    own, policy = guided(guided_config(kind="ctpg", filter_from=7))
    plant_values(own.agent, [[5.0] * 3] * 2, [[[4.0] * 3] * 3] * 2)
    for version, free in ((6, True), (7, False)):
        policy.load(weights_of(own.agent, version))
        chosen = _choices(policy, [1] * 300)
        assert (set(chosen.tolist()) == {0, 1, 2}) == free
        assert _counted(policy, "candidates") == [0, 0 if free else 900, 0]
        policy.observe(_ended(300))


def _ended(lanes: int) -> Any:
    ending = RewardingLanes([1] * lanes, [1] * lanes)
    ending.reset()
    return ending.step(np.zeros((lanes, 2), np.float32))


@pytest.mark.parametrize("task", [[0, 1, 2], [2, 0, 1, 1]])
@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_own_values_equal_those_of_one_row_after_another(algorithm: str, task: list[int]) -> None:
    own, policy = guided(guided_config(algorithm, kind="ctpg", conditioning="one_hot"))
    agent, chooser = own.agent, policy._chooser
    assert isinstance(chooser, CtpgChooser)
    rows = torch.randn(len(task), SIZE, generator=torch.Generator().manual_seed(1))
    index = torch.tensor(task)
    random = own.generator.bit_generator.state
    with torch.inference_mode():
        value = chooser.own_value(rows, index)
        own.generator.bit_generator.state = random
        outputs = agent.actor(rows, index)[0]
        drawn = own.sample(outputs, draws=5)
        for row, number in enumerate(index):
            if algorithm == "td3":
                together = torch.cat([rows[row], torch.tanh(outputs[row])])[None]
                expected = agent.critic(together, number[None])[:, 0, 0].min().item()
            else:
                expected = 0.0
                for draw in range(5):
                    together = torch.cat([rows[row], drawn.action[draw, row]])[None]
                    twins = agent.critic(together, number[None])[:, 0, 0]
                    expected += (twins.mean() - drawn.log_probability[draw, row]).item() / 5
            assert value[row].item() == pytest.approx(expected, abs=1e-5)


def test_the_own_value_counts_the_entropy_of_the_actions_that_are_drawn() -> None:
    own, policy = guided(guided_config(kind="ctpg", filter_samples=2000))
    plant_values(own.agent, [[0.0] * 3] * 2, [[[0.0] * 3] * 3] * 2)
    with torch.no_grad():
        own.agent.log_temperature.copy_(torch.tensor([-1.0, 0.0, -60.0]))
    chooser = policy._chooser
    assert isinstance(chooser, CtpgChooser)
    rows, task = torch.zeros(3, SIZE), torch.tensor([0, 1, 2])
    with torch.inference_mode():
        value = chooser.own_value(rows, task)
        outputs = own.agent.actor(rows, task)[0]
        entropy = -own.sample(outputs, draws=20_000).log_probability.mean(0)
    expected = torch.tensor([np.exp(-1.0), 1.0, 0.0]).float() * entropy
    torch.testing.assert_close(value, expected, atol=0.15, rtol=0.05)


def test_td3_follows_the_most_valued_candidate_that_passes_or_explores_among_those() -> None:
    own, policy = guided(guided_config("td3", kind="ctpg", exploration="policy"))
    # The smaller of the twins is the own value: 5, so 5 passes and 4.9 does not.
    plant_values(own.agent, [[5.0] * 3, [9.0] * 3], [[[5.0, 4.9, 7.0]] * 3])
    share = np.bincount(_choices(policy, [1] * 5000), minlength=3) / 5000
    np.testing.assert_allclose(share, [0.05, 0.0, 0.95], atol=0.015)
    assert share[1] == 0.0


def test_td3_without_a_filter_follows_the_most_valued_candidate() -> None:
    own, policy = guided(guided_config("td3", kind="ctpg", policy_filter="off"))
    assert own.agent.critic is None
    with torch.no_grad():
        own.agent.comparable.head_weight.zero_()
        own.agent.comparable.head_bias[0, :, 0] = torch.eye(3).roll(1, 1)
    share = np.bincount(_choices(policy, [1] * 3000), minlength=3) / 3000
    assert share[2] > 0.9


@torch.no_grad()
def test_qmp_follows_the_candidate_whose_action_the_own_critic_values_most() -> None:
    own, policy = guided(guided_config(kind="qmp"))
    plant_constant_policies(own.agent, [-0.5, 0.0, 0.5])
    critic = own.agent.critic
    critic.weights[0].zero_()
    critic.biases[0].zero_()
    critic.head_weight.zero_()
    critic.weights[0][:, SIZE, 0] = 1.0  # max(a, 0)
    critic.weights[0][:, SIZE, 1] = -1.0  # max(-a, 0)
    slope = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # a, -a, -|a|
    critic.head_weight[:, :, :2, 0] = slope
    assert _choices(policy, [0, 1, 2, 1]).tolist() == [2, 0, 1, 0]
    policy.observe(_ended(4))
    # The smaller twin counts: the second one now hates what the first loves in task 0.
    critic.head_weight[1, 0, :2, 0] = 10.0 * slope[1]
    assert _choices(policy, [0, 1, 2, 1]).tolist() == [1, 0, 1, 0]


def test_bpt_tries_every_candidate_and_then_plays_with_the_best() -> None:
    own, policy = guided(guided_config(kind="bpt", trial_every=4, trial_episodes=2))
    plant_constant_policies(own.agent, [-0.5, 0.0, 0.5])
    # Task 0 is best played by candidate 2, task 1 by candidate 0, task 2 by its own.
    lanes = RewardingLanes([0, 1, 2, 0], [5, 6, 4, 9], [0.4, -0.6, 0.5])
    subject = unroller_of(policy, lanes, length=300)
    unroll = subject.unroll()
    trials = [0, 0, 0]
    for lane, (task, best) in enumerate([(0, 2), (1, 0), (2, 2), (0, 2)]):
        starts = _starts(unroll, lane)
        _assert_rounds(unroll.guide[starts, lane].tolist(), task, best)
        # Rounds are four episodes of play and six of trials.
        episode = np.searchsorted(starts, np.flatnonzero(unroll.decision[:, lane]), "right") - 1
        trials[task] += int((episode % 10 >= 4).sum())
    assert unroll.guidance is not None
    assert unroll.guidance.trials.tolist() == trials
    assert unroll.guidance.choices.sum() == unroll.decision.sum()


def _starts(unroll: Unroll, lane: int) -> np.ndarray:
    """Return the first step of each episode."""
    return np.flatnonzero(unroll.valid[:, lane] & (unroll.age[:-1, lane] == 0))


def _assert_rounds(played: list[int], task: int, best: int) -> None:
    """Four episodes with the best, at first the own policy; then two with each candidate."""
    trials = [0, 0, 1, 1, 2, 2]
    rounds = [*[task] * 4, *trials, *[best] * 4, *trials, *[best] * 4]
    assert played[: len(rounds)] == rounds[: len(played)]
    assert len(played) > 14


def test_bpt_loses_no_score_when_it_is_restored_amid_its_trials() -> None:
    config = guided_config(kind="bpt", trial_every=4, trial_episodes=2)
    played: list[int] = []
    state = None
    for _ in range(40):
        own, policy = guided(config)
        plant_constant_policies(own.agent, [0.5, 0.0, -0.5])
        subject = unroller_of(policy, RewardingLanes([1], [5], [0.0, 0.4]), length=4)
        if state is not None:
            subject.restore(state)
        unroll = subject.unroll()
        state = subject.state()
        played += unroll.guide[_starts(unroll, 0), 0].tolist()
    _assert_rounds(played, task=1, best=0)


def test_bpt_judges_each_round_of_trials_by_itself() -> None:
    own, policy = guided(guided_config(kind="bpt", trial_every=4, trial_episodes=2))
    subject = unroller_of(policy, RewardingLanes([1], [5], [0.0, 0.4]), length=60)
    plant_constant_policies(own.agent, [0.5, 0.0, -0.5])
    before = subject.unroll()  # Ten episodes: four of play and all trials.
    # The winner's lead of the first round is larger than what it lacks in the second.
    plant_constant_policies(own.agent, [0.0, 0.1, -0.5])
    after = subject.unroll()
    played = [u.guide[_starts(u, 0), 0].tolist() for u in (before, after, subject.unroll())]
    trials = [0, 0, 1, 1, 2, 2]
    assert played == [[1, 1, 1, 1, *trials], [0, 0, 0, 0, *trials], [1, 1, 1, 1, *trials]]


def test_bpt_stays_with_the_own_policy_where_nothing_is_better() -> None:
    own, policy = guided(guided_config(kind="bpt", trial_every=4, trial_episodes=2))
    # Actions of 0 +- 2e-9 are exactly 1 away from what is wanted.
    plant_constant_policies(own.agent, [0.0, 0.0, 0.0])
    unroll = unroller_of(policy, RewardingLanes([1], [5], [1.0] * 3), length=150).unroll()
    _assert_rounds(unroll.guide[_starts(unroll, 0), 0].tolist(), task=1, best=1)


def test_bpt_lets_success_count_before_returns() -> None:
    chooser = guided_policy(
        control(config := guided_config(kind="bpt", trial_every=1, trial_episodes=1), 2),
        config,
        np.random.default_rng(1),
    )
    assert isinstance(chooser, GuidedPolicy)
    lanes = _Successful([0, 1], [3, 3])
    unroller = Unroller([(lanes, chooser)], box_tasks(2), length=60, worker=0, incarnation=0)
    unroll = unroller.unroll()
    starts = _starts(unroll, 0)
    # Episodes 0, 3, 6...: the best. The second trial of a round succeeds, with a lower return.
    for lane, own in ((0, 0), (1, 1)):
        played = unroll.guide[starts, lane].tolist()
        assert played[:6] == [own, 0, 1, 1, 0, 1]


class _Successful(RewardingLanes):
    """The second trial of each round of three episodes succeeds, and returns less."""

    def step(self, action: np.ndarray) -> Any:
        result = super().step(action)
        records = tuple(
            replace(record, raw_return=float(-(episode % 3)), success=bool(episode % 3 == 2))
            for record, episode in zip(result.episodes, self._episode, strict=False)
        )
        return replace(result, episodes=records)
