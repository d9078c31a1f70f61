"""Learners whose tasks' gradients are joined by other means than the mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from off_policy import ADAM, box_tasks, off_policy_config, off_policy_learner, replayed
from synthetic import batch_of, learner_of, run_config, vector_tasks
from test_gradient_surgery import METHODS, installed
from test_sac_td3_learners import assert_same, windows_of
from test_sac_td3_learning import TARGETS, bandit_batch

from repertory.checkpoint import load, save
from repertory.config import (
    GradientConfig,
    GuideConfig,
    NetworkConfig,
    PopArtConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.errors import BadInput
from repertory.types import ReplayBatch

OWN = ["pcgrad", "gradnorm"]


def by(config: RunConfig, method: str, **settings: Any) -> RunConfig:
    """Return a run that joins gradients by this method, and measures none unless told to."""
    gradients = GradientConfig(method=method, **{"metrics_every": 0, **settings})  # type: ignore[arg-type]
    return config.model_copy(update={"gradients": gradients})


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
@pytest.mark.parametrize(
    ("kind", "heads", "method"),
    [
        *((SacConfig, "shared", method) for method in OWN),
        (SacConfig, "per_task", "pcgrad"),
        (Td3Config, "shared", "pcgrad"),
        (SacConfig, "shared", "torchjd:upgrad"),
        *(
            pytest.param(
                SacConfig, "shared", name, marks=[pytest.mark.slow, *installed(name).marks]
            )
            for name in METHODS
            if name != "torchjd:upgrad"
        ),
    ],
)
def test_two_tasks_with_different_best_actions_are_learned_by_every_method(
    kind: Any, heads: str, method: str
) -> None:
    tasks = box_tasks(2, size=1, actions=1)
    algorithm = SacConfig(temperature=0.05) if kind is SacConfig else Td3Config()
    fast = ADAM.model_copy(update={"learning_rate": 3e-3})
    config = off_policy_config(algorithm, heads=heads, hidden=32, optimiser=fast)
    learner = off_policy_learner(by(config, method), tasks)
    random = np.random.default_rng(0)

    def error() -> float:
        with torch.no_grad():
            outputs = learner._update.agent.actor(torch.ones(2, 1), torch.arange(2))
        return float(np.abs(np.tanh(outputs[0, :, 0].numpy()) - TARGETS).max())

    assert error() > 0.2
    for _ in range(9):
        for _ in range(50):
            learner.update(bandit_batch(random), 0.0)
        if error() < 0.12:
            break
    assert error() < 0.12
    assert learner.metrics().get("learner/gradient_fallbacks", 0.0) == 0.0


@pytest.mark.parametrize("heads", ["shared", "per_task"])
@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_the_first_update_by_gradnorm_is_the_plain_one_task_by_task(kind: Any, heads: str) -> None:
    """Its weights start at 1, so that only the way there differs: a graph for each task."""
    tasks = box_tasks(3)
    # Plain steps, since Adam's first step takes the sign of rounding errors for a direction.
    slow = ADAM.model_copy(update={"kind": "rmsprop", "epsilon": 1.0, "learning_rate": 0.1})
    algorithm = kind(policy_delay=1) if kind is Td3Config else kind()
    config = off_policy_config(algorithm, heads=heads, optimiser=slow)
    plain, by_task = (off_policy_learner(by(config, m), tasks) for m in ("mean", "gradnorm"))
    fresh = off_policy_learner(config, tasks).weights().vector
    for learner in (plain, by_task):
        learner.update(replayed(tasks), 0.0)
    ours, theirs = by_task.state()["networks"], plain.state()["networks"]
    for name in ("agent", "critic"):
        for tensor, array in ours[name]["tensors"].items():
            expected = theirs[name]["tensors"][tensor]
            np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7, err_msg=tensor)
    assert np.abs(by_task.weights().vector - fresh).max() > 3e-3
    names = ("learner/gradient_norm_critic", "learner/critic_loss", "learner/gradient_norm_actor")
    ours, theirs = by_task.metrics(), plain.metrics()
    for name in names:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "method", "guided"),
    [
        (SacConfig, "pcgrad", True),
        (SacConfig, "gradnorm", False),
        (SacConfig, "torchjd:graddrop", False),
        (Td3Config, "pcgrad", False),
    ],
)
def test_a_learner_with_surgery_goes_on_from_its_state_to_the_bit(
    kind: Any, method: str, guided: bool, tmp_path: Path
) -> None:
    tasks = box_tasks(3)
    guide = GuideConfig(kind="ctpg" if guided else "none", step=4, block="none")
    config = by(off_policy_config(kind(guide=guide)), method, metrics_every=2)
    learner, other = (off_policy_learner(config, tasks, seed) for seed in (1, 77))

    def batch(seed: int) -> ReplayBatch:
        return replayed(tasks, seed=seed, windows=windows_of(3, seed) if guided else None)

    for seed in range(3):
        learner.update(batch(seed), 0.0)
    other.restore(load(save(tmp_path, learner.state(), 3, 1)))
    for seed in range(3, 6):
        for one in (learner, other):
            one.update(batch(seed), 0.1)
    assert_same(other.state(), learner.state())
    metrics = learner.metrics()
    assert other.metrics() == metrics
    assert -1.0 <= metrics["learner/gradient_cosine_min_critic"] <= 1.0


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
@pytest.mark.parametrize(
    "method", ["pcgrad", "gradnorm", "torchjd:upgrad", installed("torchjd:nashmtl")]
)
def test_a_v_trace_learner_with_surgery_goes_on_from_its_state_to_the_bit(
    method: str, tmp_path: Path
) -> None:
    tasks = vector_tasks(3)
    network = NetworkConfig(
        torso="mlp", hidden=8, lstm=4, conditioning="embedding", popart=PopArtConfig(enabled=True)
    )
    config = by(run_config(network), method, metrics_every=2)
    learner, other = (learner_of(config, tasks, seed) for seed in (1, 77))
    before = learner.weights().vector
    for seed in range(3):
        learner.update(batch_of(tasks, columns=6, seed=seed, recurrent=8), 0.0)
    assert not np.array_equal(learner.weights().vector, before)
    other.restore(load(save(tmp_path, learner.state(), 3, 1)))
    for seed in range(3, 6):
        for one in (learner, other):
            one.update(batch_of(tasks, columns=6, seed=seed, recurrent=8), 0.1)
    assert_same(other.state(), learner.state())
    metrics = learner.metrics()
    assert other.metrics() == metrics
    assert -1.0 <= metrics["learner/gradient_cosine_min"] <= 1.0


@pytest.mark.parametrize("method", ["pcgrad", "gradnorm", "torchjd:upgrad"])
@pytest.mark.parametrize("heads", ["shared", "per_task"])
def test_a_masked_task_gives_nothing_to_any_methods_direction(heads: str, method: str) -> None:
    tasks = box_tasks(3)
    config = by(off_policy_config(SacConfig(maskout=500.0, maskout_from=0), heads=heads), method)

    def after(masked_rows: int) -> Any:
        batch, other = replayed(tasks, seed=1), replayed(tasks, seed=masked_rows)
        fields = {}
        for name in ("observation", "action", "reward"):
            array = getattr(batch, name).copy()
            array[8:] = getattr(other, name)[8:]
            fields[name] = array
        fields["reward"][8:] += 1000.0
        learner = off_policy_learner(config, tasks)
        for _ in range(2):
            learner.update(replayed(tasks, seed=1, **fields), 0.0)
        return learner

    one, two = after(2), after(3)
    assert one.metrics()["task/task2/masked_out"] == 1.0
    assert two.metrics()["learner/gradient_norm_critic"] > 0.0
    assert_same(one.state(), two.state())


@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_measuring_cosines_changes_no_bit_of_the_plain_update(kind: Any) -> None:
    tasks = box_tasks(3)
    measured, plain = (
        off_policy_learner(by(off_policy_config(kind()), "mean", metrics_every=every), tasks)
        for every in (2, 0)
    )
    rows = []
    for seed in range(4):
        for learner in (measured, plain):
            learner.update(replayed(tasks, seed=seed), 0.0)
        rows.append(measured.metrics())
    for row, due in zip(rows, (False, True, False, True), strict=True):
        for part in ("critic", "actor"):
            assert (f"learner/gradient_cosine_mean_{part}" in row) == due
    for state in (states := [measured.state(), plain.state()]):
        del state["gradients"], state["metrics"]
    assert_same(*states)


def test_measuring_cosines_changes_no_bit_of_a_plain_v_trace_update() -> None:
    tasks = vector_tasks(3)
    measured, plain = (
        learner_of(by(run_config(), "mean", metrics_every=every), tasks) for every in (1, 0)
    )
    for seed in range(3):
        for learner in (measured, plain):
            learner.update(batch_of(tasks, columns=5, seed=seed), 0.0)
    np.testing.assert_array_equal(measured.weights().vector, plain.weights().vector)
    assert "learner/gradient_cosine_mean" in measured.metrics()
    assert "learner/gradient_cosine_mean" not in plain.metrics()


@pytest.mark.parametrize("method", ["pcgrad", "torchjd:upgrad", "gradnorm"])
def test_an_update_that_is_not_finite_leaves_a_surgical_learner_as_it_was(method: str) -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(by(off_policy_config(SacConfig()), method), tasks)
    learner.update(replayed(tasks), 0.0)
    before = learner.state()
    reward = np.zeros(8, np.float32)
    reward[3] = np.nan
    learner.update(replayed(tasks, reward=reward), 0.0)
    assert learner.state()["nonfinite"] == 1
    counters = ("version", "noise", "nonfinite", "metrics")
    assert_same(before, learner.state(), but=counters)
    unrolled = learner_of(by(run_config(), method), vector_tasks(2))
    batch = batch_of(vector_tasks(2))
    unrolled.update(batch, 0.0)
    before = unrolled.state()
    batch.reward[0] = np.nan
    unrolled.update(batch, 0.0)
    assert_same(before, unrolled.state(), but=counters)


def test_a_state_of_another_method_is_refused() -> None:
    tasks = box_tasks(2)
    state = off_policy_learner(by(off_policy_config(), "pcgrad"), tasks).state()
    with pytest.raises(BadInput, match=r"gradients\.method is pcgrad, this run's is mean"):
        off_policy_learner(off_policy_config(), tasks).restore(state)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["pcgrad", "gradnorm", "torchjd:upgrad", "torchjd:graddrop"])
def test_surgery_on_cuda_learns_saves_and_goes_on(method: str) -> None:
    tasks = box_tasks(3)
    config = by(off_policy_config(device="cuda"), method, metrics_every=1)
    learner, other = (off_policy_learner(config, tasks, seed) for seed in (1, 77))
    before = learner.weights().vector
    for seed in range(3):
        learner.update(replayed(tasks, seed=seed, each=40), 0.0)
    assert not np.array_equal(learner.weights().vector, before)
    other.restore(learner.state())
    for one in (learner, other):
        one.update(replayed(tasks, seed=3, each=40), 0.0)
    np.testing.assert_allclose(other.weights().vector, learner.weights().vector, atol=1e-4)
    assert "learner/gradient_cosine_mean_actor" in learner.metrics()
