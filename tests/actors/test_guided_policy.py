"""Whose policy acts and when that is chosen: guidance at rollout time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from acting_agents import (
    RewardingLanes,
    control,
    guided,
    guided_config,
    plant_constant_policies,
    plant_guide,
    plant_values,
    unroller_of,
    weights_of,
)

from actors.control_policy import ControlPolicy
from actors.guidance import guided_policy
from actors.policy import Policy
from actors.unroller import Unroller
from learner.losses.guide_gates import blocked_by_temperature
from repertory.types import Unroll

EVEN = [[0.0] * 3] * 3


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
    _, policy = guided(guided_config(algorithm, kind=kind, trial_every=2, trial_episodes=1))
    lanes = RewardingLanes([0, 1, 2, 0], [10, 7, 4, 3])
    subject = unroller_of(policy, lanes, length=9)
    unrolls = [subject.unroll() for _ in range(12)]
    assert _assert_protocol(unrolls, step=4, lanes=4) > 100
    chosen = {int(g) for u in unrolls for g in np.unique(u.guide[:, 0])}
    assert len(chosen) > 1 or kind == "qmp"


def test_the_chosen_policy_acts_for_the_lanes_whole_window() -> None:
    own, policy = guided(guided_config(kind="ctpg", policy_filter="off"))
    plant_constant_policies(own.agent, [-0.5, 0.0, 0.5])
    subject = unroller_of(policy, RewardingLanes([0, 1, 2], [10, 7, 4]), length=60)
    unroll = subject.unroll()
    expected = np.array([-0.5, 0.0, 0.5], np.float32)[unroll.guide]
    np.testing.assert_allclose(unroll.action[..., 0], expected, atol=1e-5)
    assert (unroll.guide != unroll.task).any()


def test_blocked_tasks_follow_themselves_in_windows_of_their_own() -> None:
    own, policy = guided(guided_config(kind="ctpg"))
    plant_guide(own.agent, [[-40.0, 0.0, -40.0], EVEN[0], EVEN[0]])
    plant_values(own.agent, [[0.0] * 3] * 2, [[[1.0] * 3] * 3] * 2)
    blocked = blocked_by_temperature(torch.tensor([0.0, -1.0, -2.0]))
    policy.load(weights_of(own.agent, 1, (~blocked).tolist()))
    unroll = unroller_of(policy, RewardingLanes([0, 1, 2], [10, 7, 6]), length=60).unroll()
    _assert_protocol([unroll], step=4, lanes=3)
    assert set(unroll.guide[:, 0].tolist()) == {0}
    assert set(unroll.guide[:, 1].tolist()) == {0, 1, 2}
    assert unroll.decision[:, 0].sum() > 12
    # A task that is blocked asks nobody; every decision of the others is counted.
    assert unroll.guidance is not None
    assert unroll.guidance.choices.tolist() == [0, *unroll.decision[:, 1:].sum(0).tolist()]


def test_a_task_is_blocked_and_freed_from_its_lanes_next_episode_on() -> None:
    own, policy = guided(guided_config(kind="ctpg", policy_filter="off"))
    plant_guide(own.agent, [[-40.0, 0.0, -40.0]] * 3)
    # Steps 0..9 and 11..20 and 22..31 are episodes; the unroll changes weights inside each.
    subject = unroller_of(policy, RewardingLanes([0], [10]), length=6)
    guides = []
    for mask in (None, (False, True, True), None, (True, True, True), None, None):
        if mask is not None:
            policy.load(weights_of(own.agent, 1, mask))
        guides.append(subject.unroll().guide[:, 0])
    seen = np.concatenate(guides)
    assert set(seen[:10].tolist()) == {1}
    assert set(seen[11:21].tolist()) == {0}
    assert set(seen[22:32].tolist()) == {1}


def test_nothing_is_chosen_while_actions_are_uniform() -> None:
    config = guided_config(kind="ctpg", exploration="uniform")
    own, policy = guided(config, version=0)
    lanes = RewardingLanes([0, 1, 2], [50, 7, 5])
    subject = unroller_of(policy, lanes, length=10)
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

    def fresh() -> tuple[ControlPolicy, Unroller]:
        own, policy = guided(config, version=0)
        lanes = RewardingLanes([0, 1, 2, 1], [10, 10, 5, 3], [0.3, -0.2, 0.1])
        return own, unroller_of(policy, lanes, length=9)

    own, subject = fresh()
    weights = weights_of(own.agent, 1, (True, False, True))
    subject.unroll()
    subject.load(weights)
    # After step 63 lane 1, blocked, is at a choice inside an episode, and lane 3 is about to reset.
    for _ in range(6):
        subject.unroll()
    state, random = subject.state(), own.generator.bit_generator.state
    expected = [subject.unroll() for _ in range(6)]
    other, again = fresh()
    again.load(weights_of(own.agent, 1))
    again.restore(state)
    other.generator.bit_generator.state = random
    for unroll in expected:
        repeated = again.unroll()
        for name in ("action", "guide", "decision", "behaviour_log_probability", "reward"):
            np.testing.assert_array_equal(getattr(repeated, name), getattr(unroll, name))
        assert (repeated.guidance is None) == (unroll.guidance is None) == (kind == "qmp")
        if unroll.guidance is not None and repeated.guidance is not None:
            for name in ("choices", "candidates", "passed", "fallbacks", "trials"):
                np.testing.assert_array_equal(
                    getattr(repeated.guidance, name), getattr(unroll.guidance, name)
                )


def test_a_config_without_guide_leaves_the_control_policy_alone() -> None:
    config = guided_config(kind="none")
    own = control(config, 2)
    assert guided_policy(own, config, own.generator) is own
    assert isinstance(guided(guided_config(kind="ctpg"))[1], Policy)
