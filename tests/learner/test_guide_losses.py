"""The guide's pure functions against hand-checked cases and slow twins."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from guide_examples import control_tasks, windows_of

from learner.losses.guide import (
    comparable_value,
    critic_rows,
    double_dqn_value,
    guide_value,
    policy_rows,
    soft_rewards,
    target_entropy,
    temperature_rows,
)
from learner.losses.guide_gates import blocked_by_success, blocked_by_temperature
from learner.losses.windows import ends, last_observation, window_target


def hand_target(*, length: int, terminated: bool, truncated: bool, terminal: bool = False) -> float:
    """Return the target of rewards 1, 2, 4 with discount 1/2 and the value 8 at the end."""
    over = ends(
        torch.tensor([terminated]),
        torch.tensor([truncated]),
        "terminal" if terminal else "bootstrap",
    )
    target = window_target(
        reward=torch.tensor([[1.0], [2.0], [4.0]]),
        length=torch.tensor([length]),
        ended=over,
        bootstrap=torch.tensor([8.0]),
        discount=0.5,
    )
    return float(target)


def test_a_whole_window_is_its_discounted_rewards_and_the_value_after() -> None:
    assert hand_target(length=3, terminated=False, truncated=False) == 4.0


def test_a_window_that_terminates_early_is_its_rewards_alone() -> None:
    assert hand_target(length=2, terminated=True, truncated=False) == 2.0


def test_a_truncated_window_bootstraps_from_its_own_last_observation() -> None:
    assert hand_target(length=2, terminated=False, truncated=True) == 4.0


def test_a_time_limit_taken_for_an_end_ends_the_return() -> None:
    assert hand_target(length=2, terminated=False, truncated=True, terminal=True) == 2.0


def test_targets_are_those_of_a_forward_sum_and_nothing_beyond_an_end_is_read() -> None:
    windows = windows_of(control_tasks(2), [30, 30], poison=True)
    bootstrap = torch.randn(60, generator=torch.Generator().manual_seed(0))
    ended = ends(windows.terminated, windows.truncated, "bootstrap")
    target = window_target(
        reward=windows.reward,
        length=windows.length,
        ended=ended,
        bootstrap=torch.where(ended, math.nan, bootstrap),
        discount=0.9,
    )
    for column in range(60):
        length = int(windows.length[column])
        total = sum(0.9**k * float(windows.reward[k, column]) for k in range(length))
        if not windows.terminated[column]:
            total += 0.9**length * float(bootstrap[column])
        assert float(target[column]) == pytest.approx(total, abs=1e-5)


def test_the_last_observation_is_the_one_after_the_last_valid_step() -> None:
    windows = windows_of(control_tasks(2), [20, 20], poison=True)
    last = last_observation(windows.observation, windows.length)
    for column in range(40):
        expected = windows.observation[int(windows.length[column]), column]
        assert expected.isfinite().all()
        assert torch.equal(last[column], expected)


def test_guide_block_blocks_those_above_the_mean_of_the_logs() -> None:
    blocked = blocked_by_temperature(torch.tensor([0.0, -1.0, -2.0]))
    assert blocked.tolist() == [True, False, False]


@pytest.mark.parametrize("tasks", [3, 7, 10, 50])
def test_equal_temperatures_block_nobody_whatever_they_are(tasks: int) -> None:
    for value in np.linspace(-3.0, 0.0, 50, dtype=np.float32):
        assert not blocked_by_temperature(torch.full((tasks,), float(value))).any()


def test_blocking_by_success_guides_who_is_not_known_to_succeed() -> None:
    rates = torch.tensor([0.9, 0.8, math.nan, 0.0])
    assert blocked_by_success(rates, 0.8).tolist() == [True, False, False, False]


def test_the_target_entropy_of_ten_candidates() -> None:
    assert target_entropy(10, 0.98) == pytest.approx(2.2565, abs=1e-4)


def test_comparable_values_of_ones_own_option_are_the_soft_state_values() -> None:
    """He et al. 2024, appendix B: 2 states, 2 actions, windows of 2 steps enumerated exactly."""
    discount, alpha, steps = 0.9, 0.3, 2
    policies = torch.tensor(
        [[[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.5], [0.9, 0.1]]], dtype=torch.float64
    )
    move = torch.tensor([[[0.6, 0.4], [0.1, 0.9]], [[0.8, 0.2], [0.3, 0.7]]], dtype=torch.float64)
    reward = torch.tensor([[1.0, -0.5], [0.3, 2.0]], dtype=torch.float64)
    own = policies[0]
    entropy = -(own * own.log()).sum(-1)
    transition = torch.einsum("sa,sat->st", own, move)
    gain = (own * reward).sum(-1) + alpha * entropy
    value = torch.linalg.solve(torch.eye(2).double() - discount * transition, gain)

    # Columns: every way through a window, from each start by each candidate.
    ways = list(product(range(2), range(2), *[range(2)] * (2 * steps)))
    start, chosen = torch.tensor([w[:2] for w in ways]).T
    states, rewards, weight = [start], [], torch.ones(len(ways)).double()
    for step in range(steps):
        action, after = torch.tensor([w[2 + 2 * step : 4 + 2 * step] for w in ways]).T
        weight = weight * policies[chosen, states[-1], action] * move[states[-1], action, after]
        rewards.append(reward[states[-1], action])
        states.append(after)
    forced = torch.tensor([0.0, -math.inf]).double().expand(len(ways), -1)
    table = torch.zeros(2, 2).double()
    for _ in range(300):
        targets = window_target(
            reward=soft_rewards(
                reward=torch.stack(rewards),
                log_probability=torch.stack([-entropy[state] for state in states[:-1]]),
                temperature=torch.full((len(ways),), alpha, dtype=torch.float64),
            ),
            length=torch.full((len(ways),), steps),
            ended=torch.zeros(len(ways), dtype=torch.bool),
            bootstrap=comparable_value(logits=forced, quality=table[states[-1]].expand(2, -1, -1)),
            discount=discount,
        )
        flat = torch.zeros(4).double().index_add(0, 2 * start + chosen, weight * targets)
        table = flat.view(2, 2)
    assert (table[:, 0] - value).abs().max() < 1e-8
    assert (table[:, 1] - value).abs().max() > 0.1


def test_values_and_rows_are_those_of_plain_loops() -> None:
    random = np.random.default_rng(0)
    logits, quality = random.normal(size=(5, 3)), random.normal(size=(2, 5, 3))
    temperature, chosen = random.uniform(0.1, 1.0, 5), random.integers(0, 3, 5)
    target = random.normal(size=5)
    given = {
        "logits": torch.tensor(logits),
        "quality": torch.tensor(quality),
        "temperature": torch.tensor(temperature),
    }
    value = guide_value(**given)
    rows = policy_rows(**given)
    compared = comparable_value(logits=given["logits"], quality=given["quality"])
    losses = critic_rows(
        quality=given["quality"], chosen=torch.tensor(chosen), target=torch.tensor(target)
    )
    double = double_dqn_value(online=given["logits"], target=given["quality"][0])
    heat = temperature_rows(
        log_temperature=torch.tensor(temperature).log(), entropy=rows.entropy, target_entropy=0.7
    )
    for w in range(5):
        policy = np.exp(logits[w]) / np.exp(logits[w]).sum()
        least = np.minimum(quality[0, w], quality[1, w])
        entropy = -float(np.sum(policy * np.log(policy)))
        soft = float(policy @ least) + temperature[w] * entropy
        assert float(value[w]) == pytest.approx(soft)
        assert float(rows.loss[w]) == pytest.approx(-soft)
        assert float(rows.entropy[w]) == pytest.approx(entropy)
        assert float(compared[w]) == pytest.approx(policy @ least)
        errors = quality[:, w, chosen[w]] - target[w]
        assert float(losses[w]) == pytest.approx(float((errors**2).sum()))
        assert float(double[w]) == pytest.approx(quality[0, w, np.argmax(logits[w])])
        assert float(heat[w]) == pytest.approx(temperature[w] * (entropy - 0.7))


def test_certain_policies_have_finite_values_and_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    quality, temperature = torch.ones(2, 1, 3), torch.ones(1)
    rows = policy_rows(logits=logits, quality=quality, temperature=temperature)
    (gradient,) = torch.autograd.grad(rows.loss.sum(), logits)
    assert gradient.isfinite().all()
    value = guide_value(logits=logits.detach(), quality=quality, temperature=temperature)
    assert float(value) == pytest.approx(1.0)


def test_entropy_above_the_target_lowers_the_temperature() -> None:
    log_temperature = torch.tensor([-1.0, -1.0], requires_grad=True)
    rows = temperature_rows(
        log_temperature=log_temperature, entropy=torch.tensor([1.0, 0.2]), target_entropy=0.5
    )
    (gradient,) = torch.autograd.grad(rows.sum(), log_temperature)
    assert gradient.tolist() == pytest.approx([math.exp(-1) * 0.5, math.exp(-1) * -0.3])
