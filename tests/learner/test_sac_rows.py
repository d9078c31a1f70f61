"""Cases by hand of what SAC and TD3 share: tasks' weights, maskout, targets, densities."""

from __future__ import annotations

import math

import pytest
import torch

from learner.losses.deterministic_policy_gradient import smoothed_action
from learner.losses.soft_actor_critic import actor_rows, soft_value, temperature_rows
from learner.losses.task_weights import by_task, joined, kept_tasks, loss_weights, per_task_means
from learner.losses.twin_critic import one_step_target, squared_errors
from repertory.networks.gaussian import (
    draw,
    tanh_gaussian_log_probability,
    tanh_gaussian_log_probability_of_action,
)


def test_the_task_with_the_lowest_temperature_weighs_most() -> None:
    log_temperature = torch.tensor([1.0, 0.5, 0.25]).log()
    expected = torch.tensor([3.0, 6.0, 12.0]) / 7.0
    torch.testing.assert_close(loss_weights(log_temperature, "inverse_temperature"), expected)
    printed = torch.tensor([1.0, 0.5, 0.25]).neg().exp()
    expected = 3.0 * printed / printed.sum()
    torch.testing.assert_close(loss_weights(log_temperature, "exponential"), expected)
    torch.testing.assert_close(loss_weights(log_temperature, "none"), torch.ones(3))


def test_a_task_above_the_threshold_contributes_nothing_and_the_denominator_stays() -> None:
    rows = torch.tensor([5.0, 15.0, 3000.0, 5000.0])
    means = per_task_means(rows, 2)
    torch.testing.assert_close(means, torch.tensor([10.0, 4000.0]))
    kept = kept_tasks(means, 3000.0)
    assert kept.tolist() == [True, False]
    assert joined(means, torch.ones(2), kept).item() == 5.0
    assert kept_tasks(means, 4000.0).all()
    assert kept_tasks(means, 0.0).all()


def test_what_is_not_a_number_is_not_masked_away() -> None:
    assert kept_tasks(torch.tensor([float("nan")]), 1.0).all()


def test_every_row_gets_the_value_of_its_task() -> None:
    assert by_task(torch.tensor([1.0, 2.0]), 6).tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("limit", "cut"), [("bootstrap", 2.5 + 0.5 * 8.0), ("terminal", 2.5)])
def test_an_end_does_not_bootstrap_and_a_cut_does_unless_taken_for_an_end(
    limit: str, cut: float
) -> None:
    target = one_step_target(
        reward=torch.full((4,), 5.0),
        next_value=torch.tensor([8.0, 8.0, float("inf"), 8.0]),
        terminated=torch.tensor([False, False, True, True]),
        truncated=torch.tensor([False, True, False, True]),
        discount=0.5,
        reward_scale=0.5,
        time_limit=limit,  # type: ignore[arg-type]
    )
    assert target.tolist() == [6.5, cut, 2.5, 2.5]


def test_both_critics_errors_add_up_and_the_target_has_no_gradient() -> None:
    value = torch.tensor([[1.0, 2.0], [4.0, 2.0]], requires_grad=True)
    target = torch.tensor([3.0, 2.0], requires_grad=True)
    rows = squared_errors(value, target)
    assert rows.tolist() == [5.0, 0.0]
    rows.sum().backward()
    assert target.grad is None
    assert value.grad is not None
    assert value.grad.tolist() == [[-4.0, 0.0], [2.0, 0.0]]


def test_the_lower_critic_alone_leads_the_actor() -> None:
    value = torch.tensor([[1.0, 5.0], [2.0, 3.0]], requires_grad=True)
    log_probability = torch.tensor([0.5, -1.0], requires_grad=True)
    temperature = torch.tensor([0.1, 2.0], requires_grad=True)
    rows = actor_rows(value=value, log_probability=log_probability, temperature=temperature)
    torch.testing.assert_close(rows.detach(), torch.tensor([-0.95, -5.0]))
    rows.sum().backward()
    assert temperature.grad is None
    assert value.grad is not None
    assert value.grad.tolist() == [[-1.0, 0.0], [0.0, -1.0]]
    assert log_probability.grad is not None
    torch.testing.assert_close(log_probability.grad, temperature.detach())
    soft = soft_value(value=value, log_probability=log_probability, temperature=temperature)
    torch.testing.assert_close(soft.detach(), torch.tensor([0.95, 5.0]))


@pytest.mark.parametrize(("log_probability", "sign"), [(3.0, -1.0), (1.0, 1.0)])
def test_a_temperature_rises_when_entropy_is_short_by_a_gradient_of_factor_alpha(
    log_probability: float, sign: float
) -> None:
    alpha = 0.25
    log_temperature = torch.tensor([math.log(alpha)], requires_grad=True)
    drawn = torch.tensor([log_probability], requires_grad=True)
    temperature_rows(
        log_temperature=log_temperature, log_probability=drawn, target_entropy=-2.0
    ).sum().backward()
    assert drawn.grad is None
    assert log_temperature.grad is not None
    assert log_temperature.grad.item() == pytest.approx(sign * alpha)


def test_log_probabilities_are_those_of_the_density_of_the_squashed_draws() -> None:
    mean, log_deviation = torch.tensor([[0.3]]), torch.tensor([[-0.4]])
    # The density of a is the derivative of the chance of less than a.
    grid = torch.linspace(-0.95, 0.95, 39, dtype=torch.float64)
    normal = torch.distributions.Normal(0.3, math.exp(-0.4))
    step = 1e-5
    below, above = (normal.cdf(torch.atanh(grid + side)) for side in (-step, step))
    density = (above - below) / (2.0 * step)
    ours = tanh_gaussian_log_probability_of_action(
        mean.double(), log_deviation.double(), grid.unsqueeze(-1)
    )
    torch.testing.assert_close(ours, density.log(), rtol=1e-6, atol=1e-6)


def test_log_probabilities_are_finite_and_exact_where_tanh_rounds_to_one() -> None:
    mean = torch.zeros(3, 1)
    pre_tanh = torch.tensor([[20.0], [-20.0], [500.0]])
    log_deviation = torch.full((3, 1), 2.0)
    exact = [
        -0.5 * (z / math.e**2) ** 2 - 2.0 - 0.5 * math.log(2.0 * math.pi) - math.log(4.0) + 2 * z
        for z in (20.0, 20.0, 500.0)
    ]
    ours = tanh_gaussian_log_probability(mean, log_deviation, pre_tanh)
    torch.testing.assert_close(ours, torch.tensor(exact))
    ends = torch.tensor([[1.0], [-1.0], [0.5]])
    assert tanh_gaussian_log_probability_of_action(mean, log_deviation, ends).isfinite().all()


def test_a_draw_reports_the_log_probability_of_its_own_action() -> None:
    generator = torch.Generator().manual_seed(3)
    mean = torch.randn(50, 4, generator=generator)
    log_deviation = 0.3 * torch.randn(50, 4, generator=generator) - 1.0
    drawn = draw(mean, log_deviation, torch.randn(50, 4, generator=generator))
    again = tanh_gaussian_log_probability_of_action(mean, log_deviation, drawn.action)
    torch.testing.assert_close(drawn.log_probability, again, rtol=1e-3, atol=1e-3)


def test_target_actions_are_smoothed_within_the_clip_and_the_box() -> None:
    action = torch.tensor([[0.0], [0.0], [0.9], [0.1]])
    noise = torch.tensor([[1.0], [-9.0], [9.0], [0.0]])
    smoothed = smoothed_action(action, noise, deviation=0.2, clip=0.5)
    torch.testing.assert_close(smoothed, torch.tensor([[0.2], [-0.5], [1.0], [0.1]]))
