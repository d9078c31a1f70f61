"""The guide's update as a whole: against its NumPy twin, numbers on record, and on toy windows.

A change of numbers is remade, and said in its commit, with
`PYTHONPATH=tests:tests/learner python tests/learner/test_guide_update.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from guide_examples import (
    CASES,
    HEADS,
    ONE_HOT,
    TASKS,
    config_of,
    control_tasks,
    everything,
    guide_of,
    sac,
    td3,
    windows_of,
)
from guide_twin import arrays_of, first_update, parameters

import learner.guide_windows as guide_windows
from learner.dqn_guide import DqnGuide
from learner.replayed import TensorWindows
from learner.soft_guide import SoftGuide
from repertory.config import NetworkConfig
from repertory.errors import NumericalFailure

RECORD = Path(__file__).parent.parent / "golden" / "guide.json"


@pytest.fixture
def double() -> Iterator[None]:
    """Build everything in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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


def test_a_dqn_guide_chooses_online_and_values_by_its_target() -> None:
    """One update against loops, with a target that is another network (van Hasselt 2016)."""
    agent, critic, guide = guide_of(config_of(td3(reward_scale=0.5, discount=0.9)), TASKS)
    assert isinstance(guide.learned, DqnGuide)
    online = agent.comparable
    assert online is not None
    guide.learned._target.initialise(torch.Generator().manual_seed(5))
    windows = windows_of(TASKS, [7, 7, 7])
    chosen = guide_windows.read_windows(
        agent,
        guide_windows.prepare(windows, 3, "bootstrap"),
        hindsight=True,
        fresh=False,
        generator=torch.Generator(),
        number_format=torch.float32,
    ).chosen
    total, argmaxes_differ = 0.0, False
    for column in range(21):
        length, task = int(windows.length[column]), windows.task[column : column + 1]
        target = sum(0.9**k * 0.5 * float(windows.reward[k, column]) for k in range(length))
        last = windows.observation[length, column : column + 1]
        with torch.no_grad():
            best = int(online(last, task)[0, 0].argmax())
            valued = guide.learned._target(last, task)[0, 0]
            value = online(windows.observation[0, column : column + 1], task)[0, 0]
        argmaxes_differ |= best != int(valued.argmax())
        if not windows.terminated[column]:
            target += 0.9**length * float(valued[best])
        total += (float(value[chosen[column]]) - target) ** 2 / 21
    assert argmaxes_differ
    guide.update(windows, critic=critic)
    assert guide.metrics()["guide/critic_loss"] == pytest.approx(total, rel=1e-5)


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


def remake() -> None:
    """Write the record anew."""
    torch.set_num_threads(1)
    record = {case: first_metrics(case) for case in CASES}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    remake()
