"""Who acts, when that is chosen, and among whom: guidance at rollout time."""

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
    guided_config,
    plant_constant_policies,
    plant_guide,
    plant_values,
    weights_of,
)

from actors.control_policy import ControlPolicy
from actors.guidance import CtpgChooser, GuidedPolicy, guided_policy
from actors.policy import Policy
from actors.unroller import Unroller
from learner.losses.guide_gates import blocked_by_temperature
from repertory.config import RunConfig
from repertory.types import Unroll

EVEN = [[0.0] * 3] * 3


def _guided(config: RunConfig, tasks: int = 3, **how: Any) -> tuple[ControlPolicy, GuidedPolicy]:
    own = control(config, tasks, **how)
    policy = guided_policy(own, config, own.generator)
    assert isinstance(policy, GuidedPolicy)
    return own, policy


def _unroller(policy: Policy, lanes: RewardingLanes, length: int) -> Unroller:
    return Unroller([(lanes, policy)], box_tasks(3), length=length, worker=0, incarnation=0)


def _choices(policy: GuidedPolicy, task: Sequence[int]) -> np.ndarray:
    """Let lanes that have just started choose once."""
    count = len(task)
    return policy.act(
        np.zeros((count, SIZE), np.float32),
        np.array(task, np.int32),
        np.zeros((count, 0), np.float32),
        np.ones(count, np.bool_),
    ).guide


def _assert_protocol(unrolls: Sequence[Unroll], step: int, lanes: int) -> int:
    """Decisions fall on the first step of every episode and every `step` steps after."""
    seen = 0
    for lane in range(lanes):
        in_episode, guide = 0, -1
        for unroll in unrolls:
            for t in range(unroll.length):
                if not unroll.valid[t, lane]:
                    assert not unroll.decision[t, lane]
                    assert unroll.guide[t, lane] == unroll.task[lane]
                    in_episode = 0
                    continue
                assert unroll.decision[t, lane] == (in_episode % step == 0)
                if unroll.decision[t, lane]:
                    guide = unroll.guide[t, lane]
                    seen += 1
                assert unroll.guide[t, lane] == guide
                in_episode += 1
    return seen


@pytest.mark.parametrize("kind", ["ctpg", "qmp", "bpt"])
@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_choices_fall_on_every_episodes_first_step_and_every_k_steps_after(
    algorithm: str, kind: str
) -> None:
    _, policy = _guided(guided_config(algorithm, kind=kind, trial_every=2, trial_episodes=1))
    lanes = RewardingLanes([0, 1, 2, 0], [10, 7, 4, 3])
    subject = _unroller(policy, lanes, length=9)
    unrolls = [subject.unroll() for _ in range(12)]
    assert _assert_protocol(unrolls, step=4, lanes=4) > 100
    chosen = {int(g) for u in unrolls for g in np.unique(u.guide[:, 0])}
    assert len(chosen) > 1 or kind == "qmp"


def test_the_chosen_policy_acts_for_the_lanes_whole_window() -> None:
    own, policy = _guided(guided_config(kind="ctpg", policy_filter="off"))
    plant_constant_policies(own.agent, [-0.5, 0.0, 0.5])
    subject = _unroller(policy, RewardingLanes([0, 1, 2], [10, 7, 4]), length=60)
    unroll = subject.unroll()
    expected = np.array([-0.5, 0.0, 0.5], np.float32)[unroll.guide]
    np.testing.assert_allclose(unroll.action[..., 0], expected, atol=1e-5)
    assert (unroll.guide != unroll.task).any()


def test_choices_follow_the_guide_among_those_worth_at_least_the_own_policy() -> None:
    own, policy = _guided(guided_config(kind="ctpg"))
    plant_guide(own.agent, [[0.0] * 3, [1.0, 2.0, 3.0], [0.0] * 3])
    # Candidate 0 is worth more than task 1's own policy, the others less.
    worth = [[[0.0] * 3, [6.0, 4.0, 4.9], [0.0] * 3]] * 2
    plant_values(own.agent, [[0.0, 5.0, 0.0]] * 2, worth)
    assert set(_choices(policy, [1] * 500).tolist()) == {0}


@pytest.mark.parametrize(("mode", "masked"), [("on", True), ("fallback_only", False)])
def test_guide_choices_are_drawn_from_the_masked_distribution_only_if_the_mask_is_on(
    mode: str, masked: bool
) -> None:
    own, policy = _guided(guided_config(kind="ctpg", policy_filter=mode))
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
        own, policy = _guided(guided_config(kind="ctpg", policy_filter=mode))
        plant_values(own.agent, [[5.0] * 3] * 2, [[[4.0] * 3] * 3] * 2)
        assert _choices(policy, [2, 0, 1, 1]).tolist() == [2, 0, 1, 1]
        counted = policy.metrics()
        assert counted["actor/guide/filtered_share"] == 1.0
        assert counted["actor/guide/fallback_share"] == 1.0
        assert "actor/guide/filtered_share" not in policy.metrics()


def test_twins_are_joined_alike_on_both_sides_of_the_filter() -> None:
    # By the means 5 <= 6, by the minima 4 > 3.
    own_twins, worth_twins = [[4.0] * 3, [6.0] * 3], [[[3.0] * 3] * 3, [[9.0] * 3] * 3]
    for twins, fallback in (("mean", 0.0), ("min", 1.0)):
        own, policy = _guided(guided_config(kind="ctpg", filter_twins=twins))
        plant_values(own.agent, own_twins, worth_twins)
        _choices(policy, [0, 1, 2])
        assert policy.metrics()["actor/guide/fallback_share"] == fallback


def test_the_filter_sets_in_at_its_version() -> None:
    own, policy = _guided(guided_config(kind="ctpg", filter_from=7))
    plant_values(own.agent, [[5.0] * 3] * 2, [[[4.0] * 3] * 3] * 2)
    for version, free in ((6, True), (7, False)):
        policy.load(weights_of(own.agent, version))
        chosen = _choices(policy, [1] * 300)
        assert (set(chosen.tolist()) == {0, 1, 2}) == free
        assert ("actor/guide/fallback_share" in policy.metrics()) != free
        policy.observe(_ended(300))


def _ended(lanes: int) -> Any:
    ending = RewardingLanes([1] * lanes, [1] * lanes)
    ending.reset()
    return ending.step(np.zeros((lanes, 2), np.float32))


def test_the_own_value_counts_the_entropy_of_the_actions_that_are_drawn() -> None:
    own, policy = _guided(guided_config(kind="ctpg", filter_samples=2000))
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
    own, policy = _guided(guided_config("td3", kind="ctpg", exploration="policy"))
    # The smaller of the twins is the own value: 5, so 5 passes and 4.9 does not.
    plant_values(own.agent, [[5.0] * 3, [9.0] * 3], [[[5.0, 4.9, 7.0]] * 3])
    share = np.bincount(_choices(policy, [1] * 5000), minlength=3) / 5000
    np.testing.assert_allclose(share, [0.05, 0.0, 0.95], atol=0.015)
    assert share[1] == 0.0


def test_td3_without_a_filter_follows_the_most_valued_candidate() -> None:
    own, policy = _guided(guided_config("td3", kind="ctpg", policy_filter="off"))
    assert own.agent.critic is None
    with torch.no_grad():
        own.agent.comparable.head_weight.zero_()
        own.agent.comparable.head_bias[0, :, 0] = torch.eye(3).roll(1, 1)
    share = np.bincount(_choices(policy, [1] * 3000), minlength=3) / 3000
    assert share[2] > 0.9


def test_blocked_tasks_follow_themselves_in_windows_of_their_own() -> None:
    own, policy = _guided(guided_config(kind="ctpg"))
    plant_guide(own.agent, [[-40.0, 0.0, -40.0], EVEN[0], EVEN[0]])
    plant_values(own.agent, [[0.0] * 3] * 2, [[[1.0] * 3] * 3] * 2)
    blocked = blocked_by_temperature(torch.tensor([0.0, -1.0, -2.0]))
    policy.load(weights_of(own.agent, 1, (~blocked).tolist()))
    unroll = _unroller(policy, RewardingLanes([0, 1, 2], [10, 7, 6]), length=60).unroll()
    _assert_protocol([unroll], step=4, lanes=3)
    assert set(unroll.guide[:, 0].tolist()) == {0}
    assert set(unroll.guide[:, 1].tolist()) == {0, 1, 2}
    assert unroll.decision[:, 0].sum() > 12
    assert policy.metrics()["actor/guide/blocked_share"] == pytest.approx(1 / 3)


def test_a_task_is_blocked_and_freed_from_its_lanes_next_episode_on() -> None:
    own, policy = _guided(guided_config(kind="ctpg", policy_filter="off"))
    plant_guide(own.agent, [[-40.0, 0.0, -40.0]] * 3)
    # Steps 0..9 and 11..20 and 22..31 are episodes; the unroll changes weights inside each.
    subject = _unroller(policy, RewardingLanes([0], [10]), length=6)
    guides = []
    for guided in (None, (False, True, True), None, (True, True, True), None, None):
        if guided is not None:
            policy.load(weights_of(own.agent, 1, guided))
        guides.append(subject.unroll().guide[:, 0])
    seen = np.concatenate(guides)
    assert set(seen[:10].tolist()) == {1}
    assert set(seen[11:21].tolist()) == {0}
    assert set(seen[22:32].tolist()) == {1}


def test_nothing_is_chosen_while_actions_are_uniform() -> None:
    config = guided_config(kind="ctpg", exploration="uniform")
    own, policy = _guided(config, version=0)
    lanes = RewardingLanes([0, 1, 2], [50, 7, 5])
    subject = _unroller(policy, lanes, length=10)
    unroll = subject.unroll()
    assert not unroll.decision.any()
    assert (unroll.guide == unroll.task).all()
    np.testing.assert_allclose(unroll.behaviour_log_probability, -2 * np.log(2.0), rtol=1e-6)
    policy.load(weights_of(own.agent, 1))
    after = subject.unroll()
    assert after.policy_version.tolist() == [1, 1, 1]
    assert after.decision[:, 0].tolist() == [t % 4 == 0 for t in range(10)]


@pytest.mark.parametrize("exploration", ["policy", "uniform"])
@pytest.mark.parametrize("kind", ["ctpg", "qmp", "bpt"])
def test_a_restored_policy_goes_on_to_the_bit(kind: str, exploration: str) -> None:
    config = guided_config(kind=kind, exploration=exploration, trial_every=1, trial_episodes=1)

    def fresh() -> tuple[ControlPolicy, GuidedPolicy, Unroller]:
        own, policy = _guided(config, version=0)
        lanes = RewardingLanes([0, 1, 2, 1], [10, 7, 5, 3], [0.3, -0.2, 0.1])
        return own, policy, _unroller(policy, lanes, length=9)

    own, policy, subject = fresh()
    weights = weights_of(own.agent, 1, (True, False, True))
    subject.unroll()
    subject.load(weights)
    for _ in range(4):
        subject.unroll()
    state, random = subject.state(), own.generator.bit_generator.state
    expected = [subject.unroll() for _ in range(6)]
    metrics = policy.metrics()
    other, restored, again = fresh()
    again.restore(state)
    other.generator.bit_generator.state = random
    again.load(weights)
    for unroll in expected:
        repeated = again.unroll()
        for name in ("action", "guide", "decision", "behaviour_log_probability", "reward"):
            np.testing.assert_array_equal(getattr(repeated, name), getattr(unroll, name))
    assert restored.metrics() == metrics


@torch.no_grad()
def test_qmp_follows_the_candidate_whose_action_the_own_critic_values_most() -> None:
    own, policy = _guided(guided_config(kind="qmp"))
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
    own, policy = _guided(guided_config(kind="bpt", trial_every=4, trial_episodes=2))
    plant_constant_policies(own.agent, [-0.5, 0.0, 0.5])
    # Task 0 is best played by candidate 2, task 1 by candidate 0, task 2 by its own.
    lanes = RewardingLanes([0, 1, 2, 0], [5, 6, 4, 9], [0.4, -0.6, 0.5])
    subject = _unroller(policy, lanes, length=300)
    unroll = subject.unroll()
    _assert_protocol([unroll], step=4, lanes=4)
    for lane, (task, best) in enumerate([(0, 2), (1, 0), (2, 2), (0, 2)]):
        starts = np.flatnonzero(unroll.valid[:, lane] & (unroll.age[:-1, lane] == 0))
        played = unroll.guide[starts, lane].tolist()
        trials = [0, 0, 1, 1, 2, 2]
        rounds = [*[task] * 4, *trials, *[best] * 4, *trials, *[best] * 4]
        assert played[: len(rounds)] == rounds[: len(played)]
        assert len(played) > 14


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
    starts = np.flatnonzero(unroll.valid[:, 0] & (unroll.age[:-1, 0] == 0))
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


def test_a_config_without_guide_leaves_the_control_policy_alone() -> None:
    config = guided_config(kind="none")
    own = control(config, 2)
    assert guided_policy(own, config, own.generator) is own
    assert isinstance(_guided(guided_config(kind="ctpg"))[1], Policy)
