"""The guide as it runs: who is guided, states, what the filter keeps out, and toy windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from guide_examples import (
    CASES,
    HEADS,
    TASKS,
    config_of,
    control_tasks,
    everything,
    guide_of,
    sac,
    td3,
    windows_of,
)

from learner.guide import GuideUpdate
from learner.guide_filter import filtered
from learner.replayed import TensorWindows
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.networks.control_agent import ControlAgent, build_agent, split_gaussian
from repertory.state_tree import flatten, unflatten


def test_who_is_guided_is_decided_when_due_and_by_temperatures() -> None:
    agent, _, guide = guide_of(config_of(sac(guide={"block_every": 10})), TASKS)
    assert agent.log_temperature is not None
    unknown = np.full(3, np.nan, np.float32)
    with torch.no_grad():
        agent.log_temperature.copy_(torch.tensor([0.0, -1.0, -2.0]))
    for updates in range(10):
        guide.refresh(updates, unknown)
        assert guide.guided.all()
    guide.refresh(10, unknown)
    assert guide.guided.tolist() == [False, True, True]
    assert guide.metrics()["task/task0/blocked"] == 1.0
    with torch.no_grad():
        agent.log_temperature.copy_(torch.tensor([-2.0, -1.0, 0.0]))
    guide.refresh(19, unknown)
    assert guide.guided.tolist() == [False, True, True]
    guide.refresh(23, unknown)
    assert guide.guided.tolist() == [True, True, False]
    with torch.no_grad():
        agent.log_temperature.copy_(torch.tensor([0.0, -1.0, -2.0]))
    guide.refresh(29, unknown)
    assert guide.guided.tolist() == [True, True, False]
    guide.refresh(30, unknown)
    assert guide.guided.tolist() == [False, True, True]


@pytest.mark.parametrize("algorithm", [sac, td3])
def test_who_succeeds_often_is_blocked_and_who_is_unknown_guided(algorithm: Any) -> None:
    settings = {"block_every": 10, "block": "success", "block_success": 0.5}
    _, _, guide = guide_of(config_of(algorithm(guide=settings)), TASKS)
    guide.refresh(10, np.array([0.9, 0.5, np.nan], np.float32))
    assert guide.guided.tolist() == [False, True, True]


def test_nobody_is_ever_blocked_without_a_gate() -> None:
    agent, _, guide = guide_of(config_of(sac(guide={"block_every": 1, "block": "none"})), TASKS)
    assert agent.log_temperature is not None
    with torch.no_grad():
        agent.log_temperature.copy_(torch.tensor([0.0, -1.0, -2.0]))
    guide.refresh(1, np.ones(3, np.float32))
    assert guide.guided.all()


@pytest.mark.parametrize("case", CASES)
def test_a_restored_guide_goes_on_to_the_bit(case: str) -> None:
    agent, critic, guide = guide_of(CASES[case], TASKS)
    for seed in range(3):
        guide.update(windows_of(TASKS, [6, 5, 7], seed=seed), critic=critic)
    guide.refresh(20_000, np.full(3, np.nan, np.float32))
    arrays, tree = flatten(guide.state())
    other, _, resumed = guide_of(CASES[case], TASKS, seed=9)
    other.load_state_dict(agent.state_dict())
    resumed.restore(unflatten(tree, arrays))
    for seed in range(3, 6):
        for one in (guide, resumed):
            one.update(windows_of(TASKS, [6, 0, 7], seed=seed), critic=critic)
    assert all(map(torch.equal, everything(agent, guide), everything(other, resumed)))
    assert guide.metrics() == resumed.metrics()
    assert (guide.guided == resumed.guided).all()


def test_a_state_of_other_networks_is_refused() -> None:
    _, _, guide = guide_of(CASES["sac/code"], TASKS)
    _, _, other = guide_of(CASES["sac/code"], control_tasks(4))
    with pytest.raises(BadInput, match="another network"):
        other.restore(guide.state())


def toy(config: RunConfig, paid: int, seed: int = 0) -> tuple[ControlAgent, GuideUpdate]:
    """Return a guide after 150 updates on a chain where for task 0 only moving as policy `paid`
    does is paid; policy 0 moves left, policy 1 right, and the stored choices are noise.
    """
    tasks = control_tasks(2, size=1, actions=1)
    agent, critic, guide = guide_of(config, tasks)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        agent.actor.head_weight.zero_()
        agent.actor.head_bias[0, :, 0, 0] = torch.tensor([-0.8, 0.8])
        if agent.log_temperature is not None:
            agent.actor.head_bias[0, :, 0, 1] = -1.0
    steps, count = 3, 32
    for _ in range(150):
        played = random.integers(0, 2, count)
        action = np.tanh(
            np.where(played, 0.8, -0.8) + 0.3 * random.normal(size=(steps, count))
        ).astype(np.float32)
        task = np.repeat([0, 1], count // 2).astype(np.int32)
        reward = np.where((task == 0) & (played == paid), 1.0, 0.0).astype(np.float32)
        guide.update(
            TensorWindows(
                task=torch.from_numpy(task),
                guide=torch.from_numpy(random.integers(0, 2, count)),
                observation=torch.zeros(steps + 1, count, 1),
                action=torch.from_numpy(action).unsqueeze(-1),
                reward=torch.from_numpy(np.tile(reward, (steps, 1))),
                length=torch.full((count,), steps),
                terminated=torch.ones(count, dtype=torch.bool),
                truncated=torch.zeros(count, dtype=torch.bool),
            ),
            critic=critic,
        )
    return agent, guide


@pytest.mark.parametrize("paid", [0, 1])
@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_the_guide_learns_to_choose_whose_option_pays(algorithm: str, paid: int) -> None:
    made = sac(guide={"temperature": 0.3}) if algorithm == "sac" else td3()
    agent, guide = toy(config_of(made, HEADS, learning_rate=0.01), paid)
    network = agent.guide if algorithm == "sac" else agent.comparable
    assert network is not None
    values = network(torch.zeros(1, 1), torch.tensor([0]))[0, 0].detach()
    assert int(values.argmax()) == paid
    assert float(values[paid] - values[1 - paid]) > 1.0
    assert guide.metrics()["guide/relabelled"] == pytest.approx(0.5, abs=0.05)
    if agent.comparable is not None:
        compared = agent.comparable(torch.zeros(1, 1), torch.tensor([0]))[:, 0].detach()
        assert (compared.argmax(-1) == paid).all()


@pytest.mark.parametrize("algorithm", [sac(), td3()], ids=["sac", "td3"])
def test_the_share_filtered_is_that_of_a_loop_over_states(algorithm: Any) -> None:
    agent, critic, _ = guide_of(config_of(algorithm), TASKS)
    assert agent.comparable is not None
    if agent.log_temperature is not None:
        with torch.no_grad():
            agent.log_temperature.fill_(-3.0)
    windows = windows_of(TASKS, [4, 3, 2])
    observation, task = windows.observation[0], windows.task
    shares = filtered(
        agent,
        critic,
        observation,
        task,
        samples=5,
        twins="mean",
        generator=torch.Generator().manual_seed(3),
    )
    noise = torch.randn(5, 9, 2, generator=torch.Generator().manual_seed(3))
    kept_out, none_passed = 0, 0
    for row in range(9):
        seen, of = observation[row : row + 1], task[row : row + 1]
        with torch.no_grad():
            output = agent.actor(seen, of)[0].double()
            values = agent.comparable(seen, of)[:, 0].mean(0)
            estimates = []
            for sample in range(5 if agent.log_temperature is not None else 1):
                action, bonus = torch.tanh(output), 0.0
                if agent.log_temperature is not None:
                    mean, log_deviation = split_gaussian(output)
                    pre_tanh = mean + log_deviation.exp() * noise[sample, row]
                    action = torch.tanh(pre_tanh)
                    normal = torch.distributions.Normal(mean, log_deviation.exp())
                    density = normal.log_prob(pre_tanh) - torch.log(1.0 - action.square())
                    bonus = -float(agent.log_temperature.exp()[task[row]] * density.sum())
                pair = critic(torch.cat([seen, action.float()], -1), of)
                joined = pair.mean() if agent.log_temperature is not None else pair.min()
                estimates.append(float(joined) + bonus)
        out = [float(value) < sum(estimates) / len(estimates) for value in values]
        kept_out += sum(out)
        none_passed += all(out)
    assert 0 < kept_out < 27
    assert float(shares.candidates) == pytest.approx(kept_out / 27)
    assert float(shares.states) == pytest.approx(none_passed / 9)


def test_bf16_changes_losses_by_no_more_than_its_rounding() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        config = CASES["sac/code"]
        learning = config.learner.model_copy(update={"precision": precision})
        config = config.model_copy(update={"learner": learning})
        agent, critic, guide = guide_of(config, TASKS)
        if precision == "bf16":
            agent.actor.number_format = torch.bfloat16
        guide.update(windows_of(TASKS, [20, 20, 20]), critic=critic)
        assert agent.actor.number_format == (
            torch.bfloat16 if precision == "bf16" else torch.float32
        )
        losses.append(guide.metrics()["guide/critic_loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_an_agent_without_a_policy_filter_has_no_comparable_critic_to_learn() -> None:
    config = config_of(sac(guide={"policy_filter": "off"}))
    assert build_agent(TASKS, config, 1).comparable is None
    _, critic, guide = guide_of(config, TASKS)
    guide.update(windows_of(TASKS, [6, 6, 6]), critic=critic)
    metrics = guide.metrics()
    assert metrics["guide/critic_loss"] > 0.0
    assert "guide/comparable_loss" not in metrics
