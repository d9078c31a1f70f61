"""The guide's gates, by hand and against slow twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repertory.networks.guidance import (
    best_or_any,
    draw_candidate,
    join_copies,
    own_value,
    policy_filter,
    restrict,
    selectable,
)
from repertory.seeding import stream


def _distribution(logits: list[float], passed: list[bool], mode: str, own: int) -> list[float]:
    among = selectable(torch.tensor([passed]), torch.tensor([own]), mode)
    return torch.softmax(restrict(torch.tensor([logits]), among), -1)[0].tolist()


def test_what_does_not_pass_is_never_chosen_and_the_rest_keeps_its_proportions() -> None:
    logits = np.log([0.2, 0.3, 0.5]).tolist()
    chances = _distribution(logits, [True, False, True], "on", own=1)
    assert chances == pytest.approx([2 / 7, 0.0, 5 / 7])
    assert chances[1] == 0.0


@pytest.mark.parametrize("mode", ["on", "fallback_only"])
@pytest.mark.parametrize("own", [0, 1, 2])
def test_where_nothing_passes_the_own_policy_acts_for_certain(mode: str, own: int) -> None:
    chances = _distribution([1.0, 2.0, 3.0], [False] * 3, mode, own)
    assert chances == [float(j == own) for j in range(3)]


def test_a_mask_that_only_decides_the_fallback_leaves_the_probabilities_alone() -> None:
    logits, passed = [1.0, 2.0, 3.0], [True, False, False]
    assert _distribution(logits, passed, "on", own=2) == [1.0, 0.0, 0.0]
    unmasked = pytest.approx([0.0900, 0.2447, 0.6652], abs=1e-4)
    assert _distribution(logits, passed, "fallback_only", own=2) == unmasked
    assert _distribution(logits, [False] * 3, "off", own=2) == unmasked


def test_a_candidate_worth_exactly_as_much_passes() -> None:
    own = torch.tensor([0.1, 0.1])
    just_below = torch.nextafter(own[1], torch.tensor(-1.0))
    comparable = torch.stack([own[0], torch.tensor(0.2), just_below]).expand(2, -1)
    assert policy_filter(comparable, own).tolist() == [[True, True, False]] * 2


def test_the_own_value_is_the_mean_over_actions_of_value_and_entropy_bonus() -> None:
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(5, 4, generator=generator)
    log_probability = torch.randn(5, 4, generator=generator)
    temperature = torch.tensor([1.0, 0.5, 0.1, 0.0])
    result = own_value(value, log_probability, temperature)
    for row in range(4):
        total = 0.0
        for draw in range(5):
            entropy = -log_probability[draw, row].item()
            total += value[draw, row].item() + temperature[row].item() * entropy
        assert result[row].item() == pytest.approx(total / 5, abs=1e-6)


def test_twins_are_joined_by_mean_or_by_minimum() -> None:
    twins = torch.tensor([[[1.0, 4.0]], [[3.0, 2.0]]])
    assert join_copies(twins, "mean").tolist() == [[2.0, 3.0]]
    assert join_copies(twins, "min").tolist() == [[1.0, 2.0]]


def test_candidates_are_drawn_as_often_as_the_distribution_says() -> None:
    logits = np.log(np.array([0.2, 1.0, 0.3, 0.5])).astype(np.float32)
    logits[1] = -np.inf
    count = 40_000
    drawn = draw_candidate(np.tile(logits, (count, 1)), stream(1, "test"))
    seen = np.bincount(drawn, minlength=4)
    assert seen[1] == 0
    expected = count * np.array([0.2, 0.3, 0.5])
    chi_square = float(((seen[[0, 2, 3]] - expected) ** 2 / expected).sum())
    assert chi_square < 13.8  # 2 degrees of freedom: one run in a thousand exceeds it.


def test_epsilon_greedy_keeps_to_what_passed_and_explores_as_often_as_told() -> None:
    count = 30_000
    values = np.tile(np.array([9.0, 5.0, 5.0, 1.0], np.float32), (count, 1))
    among = np.tile(np.array([False, True, True, True]), (count, 1))
    greedy = best_or_any(values, among, 0.0, stream(1, "test"))
    assert set(greedy.tolist()) == {1}
    seen = np.bincount(best_or_any(values, among, 0.3, stream(1, "test")), minlength=4) / count
    assert seen[0] == 0.0
    np.testing.assert_allclose(seen[1:], [0.8, 0.1, 0.1], atol=0.01)
