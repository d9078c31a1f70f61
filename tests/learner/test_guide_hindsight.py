"""Whose policy a window is learned as, against a loop that evaluates one candidate at a time."""

from __future__ import annotations

import math

import pytest
import torch
from guide_examples import HEADS, ONE_HOT, config_of, control_tasks, sac, td3, windows_of

import learner.guide_windows as guide_windows
from learner.guide_windows import prepare, read_windows
from learner.losses.hindsight import distance_scores, gaussian_scores, likeliest, undo_tanh
from learner.losses.windows import valid_steps
from repertory.config import AlgorithmConfig, NetworkConfig
from repertory.networks.control_agent import ControlAgent, build_agent, split_gaussian
from repertory.networks.gaussian import tanh_gaussian_log_probability_of_action

BOTH = HEADS.model_copy(update={"conditioning": "one_hot"})
TASKS = control_tasks(3)


def two_gaussians(length: int) -> int:
    """Return who played: means +-1, deviation 1; the first action favours +1, the rest -1."""
    pre_tanh = torch.tensor([0.5, -3.0, -3.0]).unsqueeze(-1)
    mean = torch.tensor([[-1.0], [1.0]]).expand(3, 2, 1)
    scores = gaussian_scores(mean, torch.zeros(3, 2, 1), undo_tanh(torch.tanh(pre_tanh)))
    return int(likeliest(scores.unsqueeze(1), valid_steps(torch.tensor([length]), 3)))


def test_the_nearer_gaussian_played_it_and_only_valid_steps_say_so() -> None:
    assert two_gaussians(1) == 1
    assert two_gaussians(3) == 0


def test_ties_go_to_the_lowest_index() -> None:
    scores = torch.tensor([[[-2.0, -1.0, -1.0]]])
    assert likeliest(scores, torch.ones(1, 1, dtype=torch.bool)).tolist() == [1]


def test_scores_differ_from_log_densities_by_what_candidates_share() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(7, 3, 2, generator=generator, dtype=torch.float64)
    log_deviation = torch.randn(7, 3, 2, generator=generator, dtype=torch.float64)
    action = torch.tanh(torch.randn(7, 2, generator=generator, dtype=torch.float64))
    scores = gaussian_scores(mean, log_deviation, undo_tanh(action))
    density = tanh_gaussian_log_probability_of_action(mean, log_deviation, action.unsqueeze(1))
    shared = density - scores
    torch.testing.assert_close(shared, shared[:, :1].expand(-1, 3))


def test_distances_order_candidates_as_one_gaussian_would() -> None:
    candidate, action = torch.tensor([[[0.0], [0.4], [1.0]]]), torch.tensor([[0.6]])
    expected = torch.tensor([[-0.36, -0.04, -0.16]])
    torch.testing.assert_close(distance_scores(candidate, action), expected)


def naive(agent: ControlAgent, prepared: guide_windows.GuideWindows) -> list[int]:
    """Return the likeliest candidates, one window, candidate and step at a time."""
    windows, answer = prepared.windows, []
    for column in range(windows.task.shape[0]):
        totals = []
        for candidate in range(agent.candidates):
            total = 0.0
            for step in range(int(windows.length[column])):
                seen = windows.observation[step, column : column + 1]
                output = agent.actor(seen, torch.tensor([candidate]))[0]
                action = windows.action[step, column : column + 1]
                if agent.log_temperature is None:
                    total -= float((torch.tanh(output) - action).square().sum())
                else:
                    mean, deviation = split_gaussian(output)
                    total += float(tanh_gaussian_log_probability_of_action(mean, deviation, action))
            totals.append(total)
        answer.append(totals.index(max(totals)))
    return answer


@pytest.mark.parametrize("algorithm", [sac(), td3()], ids=["sac", "td3"])
@pytest.mark.parametrize("network", [ONE_HOT, HEADS, BOTH], ids=["code", "heads", "both"])
@pytest.mark.parametrize("poison", [False, True])
def test_shared_evaluation_is_the_naive_loop_and_reads_no_invalid_step(
    algorithm: AlgorithmConfig,
    network: NetworkConfig,
    poison: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = build_agent(TASKS, config_of(algorithm, network), seed=3)
    with torch.no_grad():
        agent.actor.head_weight.mul_(4.0)
        if agent.actor.code is not None:
            agent.actor.code.mul_(4.0)
    prepared = prepare(windows_of(TASKS, [12, 0, 9], poison=poison), 3, "bootstrap")
    # A few rows at a time, so that windows are cut by chunks.
    monkeypatch.setitem(guide_windows.CHUNK_NUMBERS, "cpu", 170)
    is_sac = agent.log_temperature is not None
    reading = read_windows(
        agent,
        prepared,
        hindsight=True,
        fresh=is_sac,
        generator=torch.Generator().manual_seed(1),
        number_format=torch.float32,
    )
    with torch.no_grad():
        expected = naive(agent, prepared)
    assert len(set(expected)) >= 2
    assert reading.chosen.tolist() == expected
    assert (reading.log_probability is not None) == is_sac
    if reading.log_probability is not None:
        assert reading.log_probability.isfinite().all()
        assert (reading.log_probability[~prepared.valid] == 0.0).all()


@pytest.mark.parametrize("hindsight", [False, True])
@pytest.mark.parametrize("network", [ONE_HOT, HEADS, BOTH], ids=["code", "heads", "both"])
def test_fresh_actions_are_of_the_tasks_own_policy(network: NetworkConfig, hindsight: bool) -> None:
    agent = build_agent(TASKS, config_of(sac(), network), seed=3)
    prepared = prepare(windows_of(TASKS, [5, 4, 3]), 3, "bootstrap")
    reading = read_windows(
        agent,
        prepared,
        hindsight=hindsight,
        fresh=True,
        generator=torch.Generator().manual_seed(7),
        number_format=torch.float32,
    )
    assert reading.log_probability is not None
    rows = prepared.valid.nonzero()
    noise = torch.randn(len(rows), 2, generator=torch.Generator().manual_seed(7))
    for (step, column), each in zip(rows.tolist(), noise, strict=True):
        seen = prepared.windows.observation[step, column : column + 1]
        task = prepared.windows.task[column : column + 1]
        mean, log_deviation = split_gaussian(agent.actor(seen, task)[0].detach().double())
        pre_tanh = mean + log_deviation.exp() * each
        normal = torch.distributions.Normal(mean, log_deviation.exp())
        slope = torch.log(1.0 - torch.tanh(pre_tanh).square())
        expected = float((normal.log_prob(pre_tanh) - slope).sum())
        measured = float(reading.log_probability[step, column])
        assert measured == pytest.approx(expected, abs=1e-4)


def test_stored_choices_stand_without_hindsight() -> None:
    agent = build_agent(TASKS, config_of(sac()), seed=3)
    prepared = prepare(windows_of(TASKS, [5, 4, 3]), 3, "bootstrap")
    reading = read_windows(
        agent,
        prepared,
        hindsight=False,
        fresh=False,
        generator=torch.Generator(),
        number_format=torch.float32,
    )
    assert torch.equal(reading.chosen, prepared.windows.guide)
    assert reading.log_probability is None


def test_windows_in_any_order_are_put_in_the_order_of_tasks() -> None:
    ordered = windows_of(TASKS, [4, 0, 5], poison=True)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    shuffled = type(ordered)(*(e[order] if e.dim() == 1 else e[:, order] for e in ordered))
    prepared = prepare(shuffled, 3, "bootstrap")
    assert prepared.counts == [4, 0, 5]
    assert prepared.windows.task.tolist() == ordered.task.tolist()
    before = {(float(r), int(n)) for r, n in zip(ordered.reward[0], ordered.length, strict=True)}
    after = {
        (float(r), int(n))
        for r, n in zip(prepared.windows.reward[0], prepared.windows.length, strict=True)
    }
    assert before == after
    assert prepared.last.isfinite().all()


def test_actions_at_the_ends_of_the_box_have_finite_scores() -> None:
    mean, log_deviation = torch.zeros(1, 2, 1), torch.zeros(1, 2, 1)
    scores = gaussian_scores(mean, log_deviation, undo_tanh(torch.tensor([[1.0]])))
    assert math.isfinite(float(scores[0, 0]))
