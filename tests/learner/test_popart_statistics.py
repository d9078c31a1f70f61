"""PopArt: moving averages against a sequential twin, and outputs that no statistic moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from synthetic import batch_of, learner_of, run_config, vector_tasks

from learner.popart import Statistics, accept, preserving_update, statistics_of, updated_statistics
from repertory.config import NetworkConfig, PopArtConfig, PpoConfig, VTraceConfig
from repertory.networks.heads import ValueHead, normalised_values
from repertory.networks.layers import initialise

TASKS = 3
NETWORK = NetworkConfig(torso="mlp", hidden=16, popart=PopArtConfig(enabled=True, step_size=0.05))


def head_of(seed: int = 0) -> ValueHead:
    """Return a head with weights and statistics that are not the initial ones."""
    head = ValueHead(8, tasks=TASKS, popart=True)
    initialise(head, torch.Generator().manual_seed(seed))
    head.mu.copy_(torch.tensor([1.0, -2.0, 300.0]))
    head.sigma.copy_(torch.tensor([0.5, 2.0, 40.0]))
    head.nu.copy_(head.sigma.square() + head.mu.square())
    return head


def moved(
    head: ValueHead, target: torch.Tensor, valid: torch.Tensor, task: torch.Tensor
) -> Statistics:
    """Return the head's statistics after a batch."""
    return updated_statistics(
        statistics_of(head),
        target=target,
        valid=valid,
        task=task,
        step_size=0.1,
        sigma_min=1e-4,
        sigma_max=1e6,
    )


def test_statistics_equal_sequential_steps_averaged_over_orders() -> None:
    head = head_of()
    # One task with equal targets: then every order of sequential steps is the same.
    target, task = torch.full((4, 3), 7.0), torch.tensor([0, 0, 2])
    valid = torch.ones(4, 3, dtype=torch.bool)
    valid[0, 0] = False
    new = moved(head, torch.where(valid, target, float("nan")), valid, task)
    for index, count in ((0, 7), (2, 4)):
        mu, nu = float(head.mu[index]), float(head.nu[index])
        for _ in range(count):
            mu, nu = 0.9 * mu + 0.1 * 7.0, 0.9 * nu + 0.1 * 49.0
        assert float(new.mu[index]) == pytest.approx(mu)
        assert float(new.nu[index]) == pytest.approx(nu)
        assert float(new.sigma[index]) == pytest.approx(np.sqrt(nu - mu**2))


def test_statistics_settle_at_the_mean_and_deviation_of_the_targets() -> None:
    head, random = head_of(), torch.Generator().manual_seed(0)
    task = torch.zeros(16, dtype=torch.long)
    valid = torch.ones(8, 16, dtype=torch.bool)
    statistics = statistics_of(head)
    for _ in range(300):
        statistics = updated_statistics(
            statistics,
            target=50.0 + 4.0 * torch.randn(8, 16, generator=random),
            valid=valid,
            task=task,
            step_size=3e-4,
            sigma_min=1e-4,
            sigma_max=1e6,
        )
    assert float(statistics.mu[0]) == pytest.approx(50.0, abs=0.3)
    assert float(statistics.sigma[0]) == pytest.approx(4.0, abs=0.3)


def test_an_absent_task_keeps_its_statistics_to_the_bit() -> None:
    head = head_of()
    valid = torch.ones(4, 2, dtype=torch.bool)
    valid[:, 1] = False
    new = moved(head, torch.full((4, 2), 3.0), valid, torch.tensor([0, 2]))
    for before, after in zip(statistics_of(head), new, strict=True):
        assert torch.equal(before[1:], after[1:])
        assert not torch.equal(before[:1], after[:1])


def test_sigma_stays_within_its_bounds() -> None:
    head = head_of()
    valid, task = torch.ones(50, 3, dtype=torch.bool), torch.arange(3)
    for target, bound in ((torch.zeros(50, 3), 0.25), (torch.full((50, 3), 1e4), 3.0)):
        new = updated_statistics(
            statistics_of(head),
            target=target,
            valid=valid,
            task=task,
            step_size=0.5 if bound < 1 else 0.005,
            sigma_min=0.25,
            sigma_max=3.0,
        )
        assert new.sigma.tolist() == pytest.approx([bound] * 3)


def test_no_output_moves_when_statistics_do() -> None:
    head, random = head_of(), torch.Generator().manual_seed(1)
    features = torch.randn(5, TASKS, 8, generator=random)
    task = torch.arange(TASKS).expand(5, TASKS)
    valid = torch.ones(5, TASKS, dtype=torch.bool)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.01)
    for _ in range(10):
        before = head.values(features, task).detach()
        target = before + 30.0 * torch.randn(5, TASKS, generator=random)
        update = preserving_update(head, moved(head, target, valid, torch.arange(TASKS)))
        accept(head, update)
        torch.testing.assert_close(
            head.values(features, task).detach(), before, rtol=1e-4, atol=1e-3
        )
        optimiser.zero_grad()
        (head.outputs(features, task) - 1.0).square().sum().backward()
        optimiser.step()
        assert not torch.allclose(head.values(features, task).detach(), before, atol=1e-3)


def test_gradients_through_a_preserving_update_are_those_of_the_rescaled_head() -> None:
    head = head_of()
    features = torch.randn(5, TASKS, 8, generator=torch.Generator().manual_seed(2))
    task = torch.arange(TASKS).expand(5, TASKS)
    valid = torch.ones(5, TASKS, dtype=torch.bool)
    target = torch.full((5, TASKS), 9.0)
    update = preserving_update(head, moved(head, target, valid, torch.arange(TASKS)))

    before = features.clone().requires_grad_()
    (normalised_values(before, task, update.weight, update.bias) ** 2).sum().backward()
    assert head.weight.grad is not None
    assert head.bias is not None
    assert head.bias.grad is not None
    gradients = [head.weight.grad.clone(), head.bias.grad.clone()]

    head.zero_grad()
    accept(head, update)
    after = features.clone().requires_grad_()
    (head.outputs(after, task) ** 2).sum().backward()
    torch.testing.assert_close(gradients[0], head.weight.grad)
    torch.testing.assert_close(gradients[1], head.bias.grad)
    torch.testing.assert_close(before.grad, after.grad)


@pytest.mark.parametrize("algorithm", [VTraceConfig(), PpoConfig(minibatches=2)])
def test_values_keep_their_scale_while_rewards_differ_a_thousandfold(
    algorithm: VTraceConfig | PpoConfig,
) -> None:
    tasks = vector_tasks(2)
    learner = learner_of(run_config(NETWORK, algorithm=algorithm), tasks)
    for seed in range(60):
        batch = batch_of(tasks, seed=seed, columns=8)
        batch.reward[:, 1::2] *= 1000.0
        learner.update(batch, 0.0)
    metrics = learner.metrics()
    small, large = (metrics[f"task/task{index}/popart_sigma"] for index in (0, 1))
    assert large > 100.0 * small
    assert metrics["learner/value_loss"] < 5.0
    assert metrics["learner/nonfinite_updates"] == 0


def test_a_refused_update_moves_neither_statistics_nor_head() -> None:
    tasks = vector_tasks(2)
    for algorithm in (VTraceConfig(), PpoConfig(minibatches=1, epochs=1)):
        learner = learner_of(run_config(NETWORK, algorithm=algorithm), tasks)
        learner.update(batch_of(tasks), 0.0)
        before = learner.weights().vector
        poisoned = batch_of(tasks, seed=1)
        poisoned.reward[poisoned.valid] = np.nan
        learner.update(poisoned, 0.0)
        np.testing.assert_array_equal(learner.weights().vector, before)
        learner.update(batch_of(tasks, seed=2), 0.0)
        assert not np.array_equal(learner.weights().vector, before)
