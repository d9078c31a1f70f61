"""What SAC's and TD3's learners promise besides their equations: masks, guards, states, metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from off_policy import box_tasks, off_policy_config, off_policy_learner, replayed

from repertory.checkpoint import load, save
from repertory.config import GuideConfig, SacConfig, Td3Config
from repertory.errors import BadInput, NumericalFailure
from repertory.networks.control_agent import build_agent
from repertory.networks.flat import load_vector, to_vector
from repertory.types import ReplayBatch, Windows

ALGORITHMS: list[Any] = [
    (kind, heads) for kind in (SacConfig, Td3Config) for heads in ("shared", "per_task")
]


def flat(tree: Any) -> list[tuple[str, Any]]:
    """Return the leaves of a state with their paths."""
    if isinstance(tree, dict):
        return [(f"{k}.{p}", leaf) for k, sub in tree.items() for p, leaf in flat(sub)]
    return [("", tree)]


def assert_same(one: Any, other: Any, *, but: tuple[str, ...] = ()) -> None:
    """Hold two states to the same bits, but for entries whose path starts so."""
    for (path, left), (again, right) in zip(flat(one), flat(other), strict=True):
        assert path == again
        if not path.startswith(but or ("?",)):
            np.testing.assert_array_equal(left, right, err_msg=path)


@pytest.mark.parametrize(("kind", "heads"), ALGORITHMS)
def test_a_masked_task_gives_exactly_nothing_to_any_gradient(kind: Any, heads: str) -> None:
    tasks = box_tasks(2)
    config = off_policy_config(kind(maskout=500.0, maskout_from=0), heads=heads)

    def after(masked_rows: int) -> Any:
        batch = replayed(tasks, seed=1)
        other = replayed(tasks, seed=masked_rows)
        fields = {}
        for name in ("observation", "action", "reward"):
            array = getattr(batch, name).copy()
            array[4:] = getattr(other, name)[4:]
            fields[name] = array
        fields["reward"][4:] += 1000.0
        learner = off_policy_learner(config, tasks)
        for _ in range(2):
            learner.update(replayed(tasks, seed=1, **fields), 0.0)
        return learner

    one, two = after(2), after(3)
    metrics = one.metrics()
    assert metrics["task/task1/masked_out"] == 1.0
    assert metrics["task/task0/masked_out"] == 0.0
    theirs = two.metrics()
    assert metrics["learner/gradient_norm_critic"] == theirs["learner/gradient_norm_critic"] > 0.0
    assert metrics["task/task1/critic_loss"] != theirs["task/task1/critic_loss"]
    assert_same(one.state(), two.state())
    agent, fresh = one._update.agent, build_agent(tasks, config, 1)
    if agent.log_temperature is not None:
        assert agent.log_temperature[1].item() == 0.0 != agent.log_temperature[0].item()
    if heads == "per_task":
        heads_now, heads_then = agent.actor.head_weight, fresh.actor.head_weight
        assert torch.equal(heads_now[0, 1], heads_then[0, 1])
        assert not torch.equal(heads_now[0, 0], heads_then[0, 0])


def test_no_task_is_masked_before_its_time() -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(off_policy_config(SacConfig(maskout=1e-6, maskout_from=2)), tasks)
    shares = []
    for seed in range(4):
        learner.update(replayed(tasks, seed=seed), 0.0)
        shares.append(learner.metrics()["task/task0/masked_out"])
    assert shares == [0.0, 0.0, 1.0, 1.0]


def test_temperatures_never_exceed_the_cap() -> None:
    tasks = box_tasks(2)

    def temperatures(cap: float) -> list[float]:
        # More entropy than a box can hold: temperatures rise.
        algorithm = SacConfig(target_entropy_per_action=5.0, temperature_cap=cap)
        learner = off_policy_learner(off_policy_config(algorithm), tasks)
        for seed in range(3):
            learner.update(replayed(tasks, seed=seed), 0.0)
        found: list[float] = learner._update.agent.log_temperature.detach().exp().tolist()
        return found

    assert min(temperatures(0.0)) > 1.0
    assert temperatures(1.0) == [1.0, 1.0]


def windows_of(tasks: int, seed: int, *, steps: int = 4, each: int = 3) -> Windows:
    """Return full windows that go on, `each` of every task."""
    random = np.random.default_rng(seed)
    count = tasks * each
    return Windows(
        task=np.arange(tasks, dtype=np.int32).repeat(each),
        guide=random.integers(0, tasks, count, dtype=np.int32),
        observation=random.normal(size=(steps + 1, count, 5)).astype(np.float32),
        action=random.uniform(-1, 1, (steps, count, 2)).astype(np.float32),
        reward=random.normal(size=(steps, count)).astype(np.float32),
        length=np.full(count, steps, np.int32),
        terminated=np.zeros(count, bool),
        truncated=np.zeros(count, bool),
    )


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(("kind", "heads"), ALGORITHMS)
def test_a_restored_learner_goes_on_to_the_bit(
    kind: Any, heads: str, guided: bool, tmp_path: Path
) -> None:
    tasks = box_tasks(3)
    guide = GuideConfig(kind="ctpg" if guided else "none", step=4, block="none")
    config = off_policy_config(kind(guide=guide), heads=heads)
    learner = off_policy_learner(config, tasks)

    def batch(seed: int) -> ReplayBatch:
        due = guided and seed % 2 == 0
        return replayed(tasks, seed=seed, windows=windows_of(3, seed) if due else None)

    for seed in range(3):
        learner.update(batch(seed), 0.0)
    state = load(save(tmp_path, learner.state(), 3, 1))
    other = off_policy_learner(config, tasks, seed=77)
    assert not np.array_equal(other.weights().vector, learner.weights().vector)
    other.restore(state)
    for seed in range(3, 6):
        for one in (learner, other):
            one.update(batch(seed), 0.1)
    assert other.version == learner.version == 6
    np.testing.assert_array_equal(other.weights().vector, learner.weights().vector)
    # The sums since before the checkpoint are among them.
    assert_same(other.state(), learner.state())
    assert other.metrics() == learner.metrics()


@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_windows_train_the_guide_and_leave_control_as_it_was(kind: Any) -> None:
    tasks = box_tasks(3)
    guide = GuideConfig(kind="ctpg", step=4, block="none", hindsight=False)
    config = off_policy_config(kind(guide=guide))
    with_windows, without = (off_policy_learner(config, tasks) for _ in range(2))
    with_windows.update(replayed(tasks, windows=windows_of(3, 0)), 0.0)
    without.update(replayed(tasks), 0.0)
    agent, other = with_windows._update.agent, without._update.agent
    for name in ("actor", "critic"):
        ours, theirs = getattr(agent, name), getattr(other, name)
        np.testing.assert_array_equal(to_vector(ours), to_vector(theirs))
    assert not np.array_equal(with_windows.weights().vector, without.weights().vector)
    np.testing.assert_array_equal(without.weights().guided, [True] * 3)


@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_an_update_that_is_not_finite_changes_nothing_and_too_many_end_the_run(kind: Any) -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(off_policy_config(kind(), nonfinite_limit=3), tasks)
    for seed in range(2):
        learner.update(replayed(tasks, seed=seed), 0.0)
    before = learner.state()
    reward = np.zeros(8, np.float32)
    reward[3] = np.nan
    broken = replayed(tasks, reward=reward)
    counters = ("version", "noise", "nonfinite")
    learner.update(broken, 0.0)
    learner.update(broken, 0.0)
    assert_same(before, learner.state(), but=counters)
    assert learner.version == 4
    assert learner.metrics()["learner/nonfinite_updates"] == 2.0
    learner.update(replayed(tasks), 0.0)
    learner.update(broken, 0.0)
    learner.update(broken, 0.0)
    with pytest.raises(NumericalFailure, match="3 updates in a row"):
        learner.update(broken, 0.0)


@pytest.mark.parametrize("algorithm", [SacConfig(), Td3Config(policy_delay=1)])
def test_where_the_actor_is_not_finite_it_stays_and_targets_and_temperatures_wait(
    algorithm: SacConfig | Td3Config,
) -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(off_policy_config(algorithm), tasks)
    learner.update(replayed(tasks), 0.0)
    with torch.no_grad():
        learner._update.agent.actor.head_bias.fill_(math.nan)
    before = learner.state()
    # Nothing bootstraps, so that the critics do not notice.
    learner.update(replayed(tasks, terminated=np.ones(8, bool)), 0.0)
    after = learner.state()
    assert after["nonfinite"] == 1
    critics = [state["networks"].pop("critic") for state in (before, after)]
    assert not np.array_equal(*(critic["tensors"]["head_bias"] for critic in critics))
    assert_same(before["networks"], after["networks"])
    for part in set(before["optimisers"]) - {"critic"}:
        assert_same(before["optimisers"][part], after["optimisers"][part])


def test_a_state_of_another_network_or_algorithm_is_refused() -> None:
    tasks = box_tasks(2)
    state = off_policy_learner(off_policy_config(), tasks).state()
    with pytest.raises(BadInput, match=r"actor\.code is \(1, 2, 16\) there and \(1, 2, 24\)"):
        off_policy_learner(off_policy_config(hidden=24), tasks).restore(state)
    with pytest.raises(BadInput, match="algorithm is sac, this run's is td3"):
        off_policy_learner(off_policy_config(Td3Config()), tasks).restore(state)


def test_rows_that_are_not_ordered_by_task_in_equal_shares_are_refused() -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(off_policy_config(), tasks)
    for task in ([0, 0, 0, 1, 1, 1, 1, 1], [0, 1] * 4):
        with pytest.raises(ValueError, match="2 equal shares"):
            learner.update(replayed(tasks, task=np.array(task, np.int32)), 0.0)


def test_a_critic_that_acting_needs_is_published_and_learns() -> None:
    tasks = box_tasks(2)
    config = off_policy_config(SacConfig(guide=GuideConfig(kind="qmp")))
    learner = off_policy_learner(config, tasks)
    assert "critic" not in learner.state()["networks"]
    learner.update(replayed(tasks), 0.0)
    agent = build_agent(tasks, config, 1)
    assert agent.critic is not None
    before = to_vector(agent.critic)
    load_vector(agent, learner.weights().vector)
    assert not np.array_equal(before, to_vector(agent.critic))
    np.testing.assert_array_equal(to_vector(agent.critic), to_vector(learner._update.critic))


def test_the_fresh_targets_equal_the_online_networks_and_then_follow() -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(off_policy_config(SacConfig(target_step=0.25)), tasks)
    update = learner._update
    online, target = to_vector(update.critic), to_vector(update.target_critic)
    np.testing.assert_array_equal(online, target)
    learner.update(replayed(tasks), 0.0)
    expected = target + 0.25 * (to_vector(update.critic) - target)
    np.testing.assert_allclose(to_vector(update.target_critic), expected, rtol=1e-6, atol=1e-7)


def test_td3_steps_actor_and_targets_in_every_second_update_only() -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(off_policy_config(Td3Config(policy_delay=2)), tasks)
    update = learner._update
    moved = []
    for seed in range(4):
        parts = (update.agent, update.target_critic, learner._target_actor, update.critic)
        before = [to_vector(part) for part in parts]
        learner.update(replayed(tasks, seed=seed), 0.0)
        moved.append(
            [not np.array_equal(b, to_vector(p)) for b, p in zip(before, parts, strict=True)]
        )
    waiting, stepping = [False, False, False, True], [True] * 4
    assert moved == [waiting, stepping, waiting, stepping]


@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_metrics_are_means_over_the_updates_since_they_were_read(kind: Any) -> None:
    tasks = box_tasks(2)
    config = off_policy_config(kind())
    one, both = off_policy_learner(config, tasks), off_policy_learner(config, tasks)
    rows = []
    for seed in range(4):
        one.update(replayed(tasks, seed=seed), 0.0)
        both.update(replayed(tasks, seed=seed), 0.0)
        rows.append(one.metrics())
    means = both.metrics()
    for name in ("learner/critic_loss", "learner/gradient_norm_critic", "task/task1/q_mean"):
        assert means[name] == pytest.approx(np.mean([row[name] for row in rows]))
    # TD3's actor reports in the updates in which it steps.
    losses = [row["learner/actor_loss"] for row in rows if "learner/actor_loss" in row]
    assert len(losses) == (4 if kind is SacConfig else 2)
    assert means["learner/actor_loss"] == pytest.approx(np.mean(losses))
    assert all(math.isfinite(value) for value in means.values())
    assert set(both.metrics()) == {"learner/learning_rate", "learner/nonfinite_updates"}


def test_one_task_alone_is_soft_actor_critic_as_published() -> None:
    tasks = box_tasks(1)
    learner = off_policy_learner(off_policy_config(), tasks)
    learner.update(replayed(tasks, each=16), 0.0)
    metrics = learner.metrics()
    assert metrics["task/task0/critic_loss"] == pytest.approx(metrics["learner/critic_loss"])
    assert metrics["task/task0/loss_weight"] == 1.0


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "heads"), ALGORITHMS)
def test_a_learner_on_cuda_learns_saves_and_goes_on(kind: Any, heads: str) -> None:
    tasks = box_tasks(3)
    config = off_policy_config(kind(), heads=heads, device="cuda")
    learner, other = (off_policy_learner(config, tasks, seed) for seed in (1, 77))
    before = learner.weights().vector
    for seed in range(3):
        learner.update(replayed(tasks, seed=seed, each=40), 0.0)
    assert not np.array_equal(learner.weights().vector, before)
    other.restore(learner.state())
    for one in (learner, other):
        one.update(replayed(tasks, seed=3, each=40), 0.0)
    np.testing.assert_allclose(other.weights().vector, learner.weights().vector, atol=1e-5)
    assert all(math.isfinite(value) for value in learner.metrics().values())
