"""Control policies act as the learner's own functions say, bit for bit repeatable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from acting_agents import ACTIONS, SIZE, box_tasks, control, guided_config, weights_of

from actors.control_policy import ControlPolicy
from actors.policy import Decision, Policy
from repertory.config import RunConfig
from repertory.networks.control_agent import build_agent, split_gaussian
from repertory.networks.gaussian import draw
from repertory.seeding import stream

SHAPES = [("per_task", "none"), ("per_task", "one_hot"), ("shared", "one_hot")]


def _observations(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, SIZE)).astype(np.float32)


def _act(policy: Policy, observation: np.ndarray, task: list[int]) -> Decision:
    rows = len(task)
    return policy.act(
        observation,
        np.array(task, np.int32),
        np.zeros((rows, 0), np.float32),
        np.zeros(rows, np.bool_),
    )


@pytest.mark.parametrize(("heads", "conditioning"), SHAPES)
def test_sac_acts_and_reports_what_the_learner_would(heads: str, conditioning: str) -> None:
    policy = control(guided_config(heads=heads, conditioning=conditioning, layers=2), 3)
    task, observation = [0, 2, 1, 2], _observations(4)
    decision = _act(policy, observation, task)
    noise = stream(3, "policy").standard_normal((1, 4, ACTIONS), dtype=np.float32)[0]
    with torch.no_grad():
        outputs = policy.agent.actor(torch.from_numpy(observation), torch.tensor(task))[0]
        expected = draw(*split_gaussian(outputs), torch.from_numpy(noise))
    np.testing.assert_array_equal(decision.action, expected.action.numpy())
    np.testing.assert_allclose(
        decision.log_probability, expected.log_probability.numpy(), rtol=1e-5, atol=1e-5
    )
    assert decision.action.dtype == decision.log_probability.dtype == np.float32


def test_the_density_is_that_of_torchs_squashed_normal() -> None:
    policy = control(guided_config(), 2)
    observation = _observations(50)
    task = [row % 2 for row in range(50)]
    decision = _act(policy, observation, task)
    with torch.no_grad():
        outputs = policy.agent.actor(torch.from_numpy(observation), torch.tensor(task))[0]
    mean, log_deviation = (part.double() for part in split_gaussian(outputs))
    distribution = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_deviation.exp()),
        [torch.distributions.TanhTransform(cache_size=1)],
    )
    action = torch.from_numpy(decision.action).double().clamp(-1 + 1e-9, 1 - 1e-9)
    expected = distribution.log_prob(action).sum(-1)
    inside = np.abs(decision.action).max(-1) < 0.999
    assert inside.sum() > 25
    np.testing.assert_allclose(decision.log_probability[inside], expected[inside], atol=2e-3)


def test_sampled_actions_have_the_policys_mean_and_deviation() -> None:
    policy = control(guided_config(), 2)
    observation = np.repeat(_observations(1), 20_000, axis=0)
    decision = _act(policy, observation, [1] * len(observation))
    with torch.no_grad():
        outputs = policy.agent.actor(torch.from_numpy(observation[:1]), torch.tensor([1]))[0]
    mean, log_deviation = split_gaussian(outputs)
    before_tanh = np.arctanh(decision.action.astype(np.float64).clip(-1 + 1e-7, 1 - 1e-7))
    deviation = log_deviation.exp().numpy()[0]
    np.testing.assert_allclose(before_tanh.mean(0), mean.numpy()[0], atol=0.04 * deviation.max())
    np.testing.assert_allclose(before_tanh.std(0), deviation, rtol=0.03)


def test_td3_adds_gaussian_noise_inside_the_box() -> None:
    policy = control(guided_config("td3"), 2)
    observation = np.repeat(_observations(1), 20_000, axis=0)
    decision = _act(policy, observation, [0] * len(observation))
    with torch.no_grad():
        outputs = policy.agent.actor(torch.from_numpy(observation[:1]), torch.tensor([0]))[0]
    centre = torch.tanh(outputs).numpy()[0]
    noise = stream(3, "policy").standard_normal((20_000, ACTIONS), dtype=np.float32)
    expected = np.clip(centre + np.float32(0.1) * noise, -1.0, 1.0)
    np.testing.assert_allclose(decision.action, expected, atol=1e-6)
    density = torch.distributions.Normal(torch.from_numpy(centre), 0.1)
    np.testing.assert_allclose(
        decision.log_probability,
        density.log_prob(torch.from_numpy(decision.action)).sum(-1).numpy(),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_greedy_takes_the_mode_draws_nothing_and_is_never_uniform(algorithm: str) -> None:
    config = guided_config(algorithm, exploration="uniform")
    policy = control(config, 2, version=0, greedy=True)
    observation = _observations(2)
    before = policy.generator.bit_generator.state
    decision = _act(policy, observation, [0, 1])
    assert policy.generator.bit_generator.state == before
    with torch.no_grad():
        outputs = policy.agent.actor(torch.from_numpy(observation), torch.tensor([0, 1]))[0]
    expected = torch.tanh(outputs[:, :ACTIONS]).numpy()
    np.testing.assert_array_equal(decision.action, expected)


@pytest.mark.parametrize(("heads", "conditioning"), SHAPES)
def test_another_policy_is_the_same_network_with_another_index(
    heads: str, conditioning: str
) -> None:
    policy = control(guided_config(heads=heads, conditioning=conditioning), 3, greedy=True)
    observation = _observations(3)
    action, _ = policy.act_as(observation, np.array([2, 0, 1], np.int32))
    agent = policy.agent
    for row, candidate in enumerate([2, 0, 1]):
        with torch.no_grad():
            alone = agent.actor.every_task(torch.from_numpy(observation[row : row + 1]))
        expected = torch.tanh(alone[0, 0, candidate, :ACTIONS]).numpy()
        np.testing.assert_allclose(action[row], expected, atol=1e-6)
    own = _act(policy, observation, [0, 1, 2]).action
    assert (np.abs(own - action).max(-1) > 1e-4).all()


def test_actions_are_uniform_until_the_first_update_and_then_the_policys() -> None:
    config = guided_config(exploration="uniform")
    policy = control(config, 2, version=0)
    observation = _observations(4000)
    task = [0] * 4000
    uniform = _act(policy, observation, task)
    np.testing.assert_allclose(uniform.action.mean(0), 0.0, atol=0.04)
    np.testing.assert_allclose((uniform.action**2).mean(0), 1 / 3, atol=0.02)
    np.testing.assert_allclose(uniform.log_probability, -ACTIONS * np.log(2.0), rtol=1e-6)
    policy.load(weights_of(policy.agent, 1))
    after = _act(policy, observation, task)
    assert np.std(after.log_probability) > 0.1
    sampling = control(guided_config(exploration="policy"), 2, version=0)
    assert np.std(_act(sampling, observation, task).log_probability) > 0.1


def test_a_task_never_trained_on_has_no_code_and_the_nearest_head() -> None:
    coded = control(guided_config(heads="shared", conditioning="one_hot"), 2, greedy=True)
    observation = _observations(1)
    unknown = _act(coded, observation, [7]).action
    assert np.isfinite(unknown).all()
    with torch.no_grad():
        coded.agent.actor.code.zero_()
    np.testing.assert_array_equal(unknown, _act(coded, observation, [0]).action)
    headed = control(guided_config(), 2, greedy=True)
    np.testing.assert_array_equal(
        _act(headed, observation, [7]).action, _act(headed, observation, [1]).action
    )


def test_the_same_stream_gives_the_same_actions_to_the_bit() -> None:
    first, second = (control(guided_config(), 3) for _ in range(2))
    for seed in range(5):
        a, b = (_act(p, _observations(3, seed), [0, 1, 2]) for p in (first, second))
        np.testing.assert_array_equal(a.action, b.action)
        np.testing.assert_array_equal(a.log_probability, b.log_probability)


def test_a_control_policy_is_a_policy_and_refuses_other_algorithms() -> None:
    policy = control(guided_config(), 2)
    assert isinstance(policy, Policy)
    agent = build_agent(box_tasks(2), guided_config(), 1)
    with pytest.raises(ValueError, match="sac or td3, got vtrace"):
        ControlPolicy(agent, RunConfig(), stream(1, "policy"))
