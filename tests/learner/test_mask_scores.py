"""Scores of weights and the choice of the lowest: order, ties, and numbers too small to square."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from learner.masks.scores import harmony, magnitude, mean_gradient, recovery, unit_norm
from learner.masks.update import lowest


def test_the_mean_over_tasks_is_the_same_to_the_bit_in_any_order() -> None:
    gradients = list(torch.randn(9, 2, 5000, generator=torch.Generator().manual_seed(0)))
    mean = mean_gradient(gradients)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(9)
        assert torch.equal(mean, mean_gradient(gradients[i] for i in order))


def test_what_a_task_does_not_own_never_counts_as_least_useful() -> None:
    owned = torch.tensor([True, False, True])
    score = harmony(torch.tensor([1.0, -9.0, -2.0]), torch.ones(3), owned, importance_weight=0.5)
    assert score.tolist() == [1.5, math.inf, -1.5]


def test_ties_go_to_the_lowest_index() -> None:
    score = torch.tensor([2.0, 1.0, 0.0, 1.0, -0.0, 1.0, 0.0])
    among = torch.tensor([1, 1, 1, 1, 1, 1, 0], dtype=torch.bool)
    assert lowest(score, among, 1).nonzero().flatten().tolist() == [2]
    assert lowest(score, among, 2).nonzero().flatten().tolist() == [2, 4]
    assert lowest(score, among, 4).nonzero().flatten().tolist() == [1, 2, 3, 4]
    zeros, everything = torch.zeros(5000), torch.ones(5000, dtype=torch.bool)
    assert lowest(zeros, everything, 100).nonzero().flatten().tolist() == list(range(100))


def test_scores_of_a_hundred_millionth_keep_their_order() -> None:
    # Beside 1 they would all be the same: float32 resolves 6e-8 there.
    generator = torch.Generator().manual_seed(0)
    owned = torch.arange(200) < 100
    ranks = torch.randperm(200, generator=generator).float()
    full, mean = (1.0 + ranks).unsqueeze(0) * 1e-10, torch.full((1, 200), 1e-2)
    enters = lowest(-recovery(full, mean, owned), ~owned, 10)
    best = sorted(range(100, 200), key=lambda j: -float(ranks[j]))[:10]
    assert sorted(best) == enters.nonzero().flatten().tolist()


def test_a_gradient_that_is_zero_stays_zero_and_small_ones_get_norm_one() -> None:
    assert not unit_norm(torch.zeros(2, 5)).any()
    tiny = unit_norm(torch.full((2, 8), 1e-30))
    torch.testing.assert_close(tiny, torch.full((2, 8), 0.25))
    with pytest.raises(ValueError, match="at least one task"):
        mean_gradient([])


def test_magnitude_counts_owned_weights_of_all_copies() -> None:
    parameters = torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
    owned = torch.tensor([True, False, True])
    assert magnitude(parameters, owned).tolist() == [5.0, 0.0, 9.0]
