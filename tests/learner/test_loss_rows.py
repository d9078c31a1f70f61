"""Policy-gradient, value, entropy, clipped-surrogate and advantage rows against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learner.losses.gae import generalised_advantages
from learner.losses.policy_gradient import actor_critic_rows, categorical, reduced
from learner.losses.ppo import clipped_policy_rows, normalised_advantages

RANDOM = np.random.default_rng(0)
SHAPE = (5, 3)


def draw(*shape: int) -> torch.Tensor:
    """Draw normal numbers."""
    return torch.from_numpy(RANDOM.normal(size=shape).astype(np.float32))


def test_log_probability_and_entropy_are_those_of_a_softmax() -> None:
    logits = draw(*SHAPE, 4)
    action = torch.from_numpy(RANDOM.integers(0, 4, SHAPE))
    policy = categorical(logits, action)
    shares = np.exp(logits.numpy().astype(np.float64))
    shares /= shares.sum(-1, keepdims=True)
    chosen = np.take_along_axis(shares, action.numpy()[..., None], -1)[..., 0]
    np.testing.assert_allclose(policy.log_probability, np.log(chosen), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy, -(shares * np.log(shares)).sum(-1), rtol=1e-5)


def test_rows_are_what_the_paper_prints_and_zero_where_not_valid() -> None:
    log_probability, entropy, advantage = draw(*SHAPE), draw(*SHAPE), draw(*SHAPE)
    value, target = draw(*SHAPE), draw(*SHAPE)
    valid = torch.from_numpy(RANDOM.random(SHAPE) < 0.7)
    rows = actor_critic_rows(
        log_probability=log_probability,
        entropy=entropy,
        advantage=advantage,
        value=value,
        target=target,
        valid=valid,
    )
    mask = valid.numpy()
    expected = (
        -advantage.numpy() * log_probability.numpy() * mask,
        0.5 * (target.numpy() - value.numpy()) ** 2 * mask,
        -entropy.numpy() * mask,
    )
    for row, numbers in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row, numbers, rtol=1e-6)
    total = reduced(rows, valid, value_cost=0.5, entropy_cost=0.01, reduction="sum")
    summed = sum(c * e.sum() for c, e in zip((1.0, 0.5, 0.01), expected, strict=True))
    np.testing.assert_allclose(total, summed, rtol=1e-5)
    mean = reduced(rows, valid, value_cost=0.5, entropy_cost=0.01, reduction="mean")
    np.testing.assert_allclose(mean * mask.sum(), summed, rtol=1e-5)


def test_a_batch_without_valid_steps_has_loss_zero() -> None:
    nothing = torch.zeros(SHAPE, dtype=torch.bool)
    numbers = draw(*SHAPE)
    rows = actor_critic_rows(
        log_probability=numbers,
        entropy=numbers,
        advantage=numbers,
        value=numbers,
        target=numbers,
        valid=nothing,
    )
    loss = reduced(rows, nothing, value_cost=0.5, entropy_cost=0.1, reduction="mean")
    assert float(loss) == 0.0


@pytest.mark.parametrize("gae_lambda", [0.0, 0.6, 1.0])
def test_generalised_advantages_equal_their_double_sum(gae_lambda: float) -> None:
    reward, value = draw(*SHAPE), draw(SHAPE[0] + 1, SHAPE[1])
    valid = torch.from_numpy(RANDOM.random(SHAPE) < 0.8)
    discount = torch.from_numpy((0.9 * (RANDOM.random(SHAPE) < 0.8)).astype(np.float32))
    poisoned = torch.where(valid, reward, float("nan"))
    estimate = generalised_advantages(
        reward=poisoned, discount=discount, valid=valid, value=value, gae_lambda=gae_lambda
    )
    expected = np.zeros(SHAPE)
    for column in range(SHAPE[1]):
        for start in range(SHAPE[0]):
            weight = 1.0
            for step in range(start, SHAPE[0]):
                here = (step, column)
                if not valid[here]:
                    break
                ahead = float(discount[here] * value[step + 1, column])
                difference = float(reward[here]) + ahead - float(value[here])
                expected[start, column] += weight * difference
                weight *= float(discount[here]) * gae_lambda
    np.testing.assert_allclose(estimate.advantage, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(estimate.target, expected + value[:-1].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "row", "slope"),
    [
        (1.05, 2.0, -2.1, -2.0),  # inside the clip
        (1.5, 2.0, -2.2, 0.0),  # better and far enough: no more gradient
        (0.5, 2.0, -1.0, -2.0),  # better but worse than before: full gradient
        (0.5, -2.0, 1.8, 0.0),  # worse and far enough
        (1.5, -2.0, 3.0, 2.0),  # worse yet more likely: full gradient
    ],
)
def test_clipped_rows_and_their_slopes(
    ratio: float, advantage: float, row: float, slope: float
) -> None:
    tensor = torch.tensor([[ratio]], requires_grad=True)
    rows = clipped_policy_rows(
        ratio=tensor,
        advantage=torch.tensor([[advantage]]),
        valid=torch.tensor([[True]]),
        clip=0.1,
    )
    rows.sum().backward()
    assert float(rows.detach()) == pytest.approx(row)
    assert tensor.grad is not None
    assert float(tensor.grad) == pytest.approx(slope)


def test_normalised_advantages_ignore_invalid_steps() -> None:
    advantage = draw(*SHAPE)
    valid = torch.from_numpy(RANDOM.random(SHAPE) < 0.7)
    poisoned = torch.where(valid, advantage, float("nan"))
    kept = advantage.numpy()[valid.numpy()].astype(np.float64)
    expected = (kept - kept.mean()) / kept.std()
    result = normalised_advantages(poisoned, valid)
    np.testing.assert_allclose(result.numpy()[valid.numpy()], expected, rtol=1e-4, atol=1e-5)
    assert bool((result[~valid] == 0).all())
