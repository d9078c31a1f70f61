"""The guide's update as a whole: against its NumPy twin, numbers on record, and on toy windows.

A change of numbers is remade, and said in its commit, with
`PYTHONPATH=tests:tests/learner python tests/learner/test_guide_update.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guide_examples import (
    HEADS,
    ONE_HOT,
    config_of,
    control_tasks,
    guide_of,
    sac,
    td3,
    windows_of,
)
from guide_twin import arrays_of, first_update, parameters
from torch import Tensor, nn

from learner.guide import GuideUpdate
from learner.replayed import TensorWindows
from learner.soft_guide import SoftGuide
from repertory.config import NetworkConfig, RunConfig
from repertory.errors import BadInput, NumericalFailure
from repertory.networks.control_agent import ControlAgent, build_agent
from repertory.state_tree import flatten, unflatten

RECORD = Path(__file__).parent.parent / "golden" / "guide.json"
CASES = {
    "sac/code": config_of(sac(reward_scale=0.5), ONE_HOT),
    "sac/heads": config_of(sac(time_limit="terminal"), HEADS),
    "td3/code": config_of(td3(reward_scale=0.5), ONE_HOT),
}
TASKS = control_tasks(3)


@pytest.fixture
def double() -> Iterator[None]:
    """Build everything in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def everything(agent: ControlAgent, guide: GuideUpdate) -> list[Tensor]:
    """Return copies of all that an update may change, targets included."""
    found: list[Tensor] = [p for p in agent.parameters()]
    for part in vars(guide.learned).values():
        if isinstance(part, nn.Module):
            found += part.parameters()
        elif isinstance(part, nn.Parameter):
            found.append(part)
    return [tensor.detach().clone() for tensor in found]


@pytest.mark.parametrize("network", [ONE_HOT, HEADS], ids=["code", "heads"])
@pytest.mark.usefixtures("double")
def test_one_update_is_that_of_its_numpy_twin(network: NetworkConfig) -> None:
    tasks = control_tasks(2, size=2, actions=1)
    network = network.model_copy(update={"hidden": 4})
    algorithm = sac(reward_scale=0.5, discount=0.9, target_step=0.1, temperature=0.3)
    algorithm = algorithm.model_copy(
        update={"guide": algorithm.guide.model_copy(update={"temperature": 0.6})}
    )
    config = config_of(algorithm, network, learning_rate=0.05, epsilon=0.01, clip_norm=0.3)
    agent, critic, guide = guide_of(config, tasks)
    learned = guide.learned
    assert isinstance(learned, SoftGuide)
    assert agent.guide is not None
    assert agent.comparable is not None
    assert agent.log_temperature is not None
    windows = windows_of(tasks, [4, 3], steps=3)
    # With zero biases units behind dead ones sit on the kink of ReLU, where differences fail.
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in (agent.actor, agent.guide, learned.critic, agent.comparable):
            for bias in (*module.biases, module.head_bias):
                bias.add_(0.3 * torch.randn(bias.shape, generator=draws))
    assert learned._comparable_target is not None
    learned.critic_target.load_state_dict(learned.critic.state_dict())
    learned._comparable_target.load_state_dict(agent.comparable.state_dict())
    twin = {
        "actor": arrays_of(agent.actor),
        "policy": arrays_of(agent.guide),
        "critic": arrays_of(learned.critic),
        "comparable": arrays_of(agent.comparable),
    }
    log_temperature = np.full(2, math.log(0.6))
    steps = int(windows.length.sum())
    expected = first_update(
        **twin,
        log_temperature=log_temperature,
        control_temperature=np.full(2, 0.3),
        windows={name: entry.numpy() for name, entry in windows._asdict().items()},
        noise=torch.randn(steps, 1, generator=torch.Generator().manual_seed(1)).numpy(),
        discount=0.9,
        reward_scale=0.5,
        target_step=0.1,
        target_entropy=0.98 * math.log(2),
        adam={"rate": 0.05, "epsilon": 0.01, "clip": 0.3},
    )
    guide.update(windows, critic=critic)
    metrics = guide.metrics()
    for name, value in expected["losses"].items():
        assert metrics[f"guide/{name}"] == pytest.approx(value, rel=1e-5)
    changed = np.mean(np.array(expected["chosen"]) != windows.guide.numpy())
    assert metrics["guide/relabelled"] == pytest.approx(changed)
    by_task = [np.mean(expected["entropies"][:4]), np.mean(expected["entropies"][4:])]
    for task, entropy in zip(tasks, by_task, strict=True):
        assert metrics[f"task/{task.name}/guide_entropy"] == pytest.approx(entropy, rel=1e-5)
    assert metrics["guide/entropy"] == pytest.approx(np.mean(by_task), rel=1e-5)
    np.testing.assert_allclose(learned.log_temperature.detach().numpy(), log_temperature, 1e-6)
    online = {"policy": agent.guide, "critic": learned.critic, "comparable": agent.comparable}
    for name, module in online.items():
        compared = zip(parameters(arrays_of(module)), parameters(twin[name]), strict=True)
        for ours, theirs in compared:
            np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=1e-5, err_msg=name)
    targets = {"critic": learned.critic_target, "comparable": learned._comparable_target}
    for name, target in targets.items():
        assert target is not None
        compared = zip(parameters(arrays_of(target)), expected["targets"][name], strict=True)
        for ours, theirs in compared:
            np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=1e-5, err_msg=name)


def first_metrics(case: str) -> dict[str, float]:
    """Return the metrics over three updates from a seeded start, a task missing in the last."""
    _, critic, guide = guide_of(CASES[case], TASKS)
    for seed, counts in enumerate(([6, 6, 6], [7, 6, 5], [9, 0, 9])):
        guide.update(windows_of(TASKS, counts, seed=seed), critic=critic)
    return guide.metrics()


@pytest.mark.parametrize("case", CASES)
def test_first_updates_are_the_ones_on_record(case: str) -> None:
    recorded = json.loads(RECORD.read_text())[case]
    assert first_metrics(case) == pytest.approx(recorded, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_nothing_beyond_a_windows_end_reaches_an_update(case: str) -> None:
    results = []
    for poison in (False, True):
        agent, critic, guide = guide_of(CASES[case], TASKS)
        guide.update(windows_of(TASKS, [8, 0, 7], poison=poison), critic=critic)
        results.append(everything(agent, guide))
    for clean, poisoned in zip(*results, strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, poisoned)


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_windows_changes_no_loss(case: str) -> None:
    windows = windows_of(TASKS, [5, 6, 7])
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0))
    shuffled = TensorWindows(*(e[order] if e.dim() == 1 else e[:, order] for e in windows))
    losses = []
    for one in (windows, shuffled):
        _, critic, guide = guide_of(CASES[case], TASKS)
        guide.update(one, critic=critic)
        losses.append(guide.metrics()["guide/critic_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_task_without_windows_keeps_its_heads_and_temperature() -> None:
    agent, critic, guide = guide_of(config_of(sac(guide={"temperature": 0.5})), TASKS)
    assert agent.guide is not None
    assert isinstance(guide.learned, SoftGuide)
    before = (
        agent.guide.head_weight.detach().clone(),
        guide.learned.log_temperature.detach().clone(),
    )
    guide.update(windows_of(TASKS, [9, 0, 9]), critic=critic)
    after = agent.guide.head_weight.detach(), guide.learned.log_temperature.detach()
    for old, new in zip((before[0][0], before[1]), (after[0][0], after[1]), strict=True):
        assert torch.equal(old[1], new[1])
        assert not torch.equal(old[0], new[0])
    assert "task/task1/guide_entropy" not in guide.metrics()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("source", ["own loss", "control"])
def test_a_task_left_out_gives_no_gradient_to_anything(case: str, source: str) -> None:
    """Its first update is the one of a batch in which the task's rewards are others."""
    config = CASES[case]
    algorithm = config.algorithm.model_copy(update={"maskout": 1e4, "maskout_from": 5})
    config = config.model_copy(update={"algorithm": algorithm})
    windows = windows_of(TASKS, [6, 6, 6])
    results = []
    for reward in (1e6, 2e6):
        agent, critic, guide = guide_of(config, TASKS)
        mask = None
        if source == "control":
            mask = torch.tensor([True, False, True])
            reward /= 1e6
        guide.refresh(5, np.full(3, np.nan, np.float32))
        rewards = windows.reward.clone()
        rewards[0, 6:12] = reward
        guide.update(windows._replace(reward=rewards), critic=critic, task_mask=mask)
        results.append(everything(agent, guide))
        assert guide.metrics()["guide/masked_out"] == pytest.approx(1 / 3)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    agent, critic, guide = guide_of(config, TASKS)
    guide.update(windows, critic=critic)
    assert guide.metrics()["guide/masked_out"] == 0.0


def test_no_task_is_left_out_before_its_time() -> None:
    algorithm = sac(maskout=1e-9, maskout_from=5)
    _, critic, guide = guide_of(config_of(algorithm), TASKS)
    for updates, share in ((4, 0.0), (5, 1.0)):
        guide.refresh(updates, np.full(3, np.nan, np.float32))
        guide.update(windows_of(TASKS, [6, 6, 6]), critic=critic)
        assert guide.metrics()["guide/masked_out"] == share


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_finite_changes_nothing_and_is_counted(case: str) -> None:
    agent, critic, guide = guide_of(CASES[case], TASKS)
    windows = windows_of(TASKS, [6, 6, 6])
    bad = windows._replace(reward=torch.full_like(windows.reward, math.nan))
    before = everything(agent, guide)
    guide.update(bad, critic=critic)
    guide.update(bad, critic=critic)
    assert all(map(torch.equal, before, everything(agent, guide)))
    assert guide.metrics()["guide/nonfinite_updates"] == 2.0
    guide.update(windows, critic=critic)
    assert not all(map(torch.equal, before, everything(agent, guide)))
    guide.update(bad, critic=critic)
    guide.update(bad, critic=critic)
    with pytest.raises(NumericalFailure, match="3 updates in a row"):
        guide.update(bad, critic=critic)


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


def test_guide_temperatures_never_exceed_one() -> None:
    agent, critic, guide = guide_of(config_of(sac(), learning_rate=0.5), TASKS)
    assert agent.guide is not None
    assert isinstance(guide.learned, SoftGuide)
    with torch.no_grad():  # A guide that is certain asks for a higher temperature.
        agent.guide.head_weight.zero_()
        agent.guide.head_bias[0, :, 0] = torch.tensor([20.0, 0.0, 0.0])
    guide.update(windows_of(TASKS, [6, 6, 6]), critic=critic)
    assert (guide.learned.log_temperature.detach() == 0.0).all()
    assert guide.metrics()["guide/temperature"] == 1.0


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


def remake() -> None:
    """Write the record anew."""
    torch.set_num_threads(1)
    record = {case: first_metrics(case) for case in CASES}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    remake()
