"""The learners as a whole: they learn, refuse what is not finite, ignore masks, and resume."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import batch_of, image_tasks, learner_of, run_config, vector_tasks

from repertory.config import (
    AlgorithmConfig,
    LearnerConfig,
    NetworkConfig,
    OptimiserConfig,
    PopArtConfig,
    PpoConfig,
    RunConfig,
    VTraceConfig,
)
from repertory.errors import BadInput, NumericalFailure
from repertory.networks.acting import for_acting, select_actions
from repertory.networks.actor_critic import build_network
from repertory.networks.flat import load_vector
from repertory.seeding import stream

ALGORITHMS: list[AlgorithmConfig] = [VTraceConfig(), PpoConfig(minibatches=2, epochs=2)]
EVERYTHING = NetworkConfig(
    torso="mlp", hidden=16, lstm=8, conditioning="embedding", popart=PopArtConfig(enabled=True)
)


def tree_of_plain_things(state: Any) -> bool:
    """Say whether a state holds only what a checkpoint can write."""
    match state:
        case dict():
            return all(isinstance(k, str) and tree_of_plain_things(v) for k, v in state.items())
        case list():
            return all(tree_of_plain_things(entry) for entry in state)
        case _:
            return isinstance(state, np.ndarray | str | int | float | bool | None)


@pytest.mark.parametrize("popart", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_tasks_with_opposite_answers_are_both_learned(
    algorithm: VTraceConfig | PpoConfig, popart: bool
) -> None:
    """One observation, two tasks: reward for the action of the task's own number."""
    tasks = vector_tasks(2, size=1, actions=3)
    network = NetworkConfig(
        torso="mlp", hidden=32, conditioning="one_hot", popart=PopArtConfig(enabled=popart)
    )
    config = run_config(
        network,
        algorithm=algorithm.model_copy(update={"discount": 0.0}),
        optimiser=OptimiserConfig(kind="adam", learning_rate=0.005, epsilon=1e-5, anneal="none"),
    )
    learner = learner_of(config, tasks)
    acting = for_acting(build_network(tasks, network, 1), "fp32")
    generator = stream(1, "test")
    steps, columns = 5, 8
    right = 0.0
    for _ in range(150):
        load_vector(acting, learner.weights().vector)
        batch = batch_of(tasks, steps=steps, columns=columns)
        batch.valid[:], batch.terminated[:], batch.observation[:] = True, False, 1.0
        for step in range(steps):
            logits, _ = acting.act(
                torch.ones(columns, 1),
                torch.from_numpy(batch.task),
                torch.zeros(columns, 0),
                torch.zeros(columns, dtype=torch.bool),
            )
            action, log_probability = select_actions(logits.numpy(), generator, False)
            batch.action[step], batch.behaviour_log_probability[step] = action, log_probability
        batch.reward[:] = batch.action == batch.task
        right = 0.9 * right + 0.1 * float(batch.reward.mean())
        learner.update(batch, 0.0)
    assert right > 0.9
    metrics = learner.metrics()
    assert metrics["learner/entropy"] < np.log(3)
    assert learner.version == 150


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_stands_in_invalid_steps_changes_no_weight(algorithm: AlgorithmConfig) -> None:
    tasks = vector_tasks(2)
    config = run_config(EVERYTHING, algorithm=algorithm)
    clean, poisoned = learner_of(config, tasks), learner_of(config, tasks)
    for seed in range(3):
        batch = batch_of(tasks, seed=seed, recurrent=16)
        assert not batch.valid.all()
        dirty = batch_of(tasks, seed=seed, recurrent=16)
        dirty.reward[~dirty.valid] = np.nan
        dirty.behaviour_log_probability[~dirty.valid] = np.nan
        dirty.action[~dirty.valid] = 0
        clean.update(batch, 0.0)
        poisoned.update(dirty, 0.0)
    np.testing.assert_array_equal(clean.weights().vector, poisoned.weights().vector)
    assert clean.metrics() == poisoned.metrics()


@pytest.mark.parametrize("field", ["reward", "behaviour_log_probability"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_update_that_is_not_finite_changes_nothing_and_is_counted(
    algorithm: AlgorithmConfig, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = vector_tasks(2)
    learner = learner_of(run_config(algorithm=algorithm), tasks)
    learner.update(batch_of(tasks), 0.0)
    before = learner.state()
    batch = batch_of(tasks, seed=1)
    getattr(batch, field)[0] = np.nan
    with caplog.at_level(logging.WARNING):
        learner.update(batch, 0.0)
    assert "skipped" in caplog.text
    after = learner.state()
    for part in ("network", "optimiser"):
        np.testing.assert_equal(after[part], before[part])
    assert after["nonfinite"] == before["nonfinite"] + 1
    assert learner.version == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_too_many_updates_in_a_row_that_are_not_finite_end_the_run(
    algorithm: AlgorithmConfig,
) -> None:
    tasks = vector_tasks(2)
    learner = learner_of(run_config(algorithm=algorithm), tasks)
    poisoned = batch_of(tasks)
    poisoned.reward[:] = np.nan
    for _ in range(2):
        learner.update(poisoned, 0.0)
    learner.update(batch_of(tasks), 0.0)
    assert learner.metrics()["learner/nonfinite_updates"] == 2
    for _ in range(2):
        learner.update(poisoned, 0.0)
    with pytest.raises(NumericalFailure, match="3 updates in a row"):
        learner.update(poisoned, 0.0)


@pytest.mark.parametrize("kind", ["rmsprop", "rmsprop_tensorflow", "adam"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_restored_learner_continues_to_the_bit(algorithm: AlgorithmConfig, kind: Any) -> None:
    tasks = image_tasks(2, side=36)
    network = EVERYTHING.model_copy(update={"torso": "shallow"})
    config = run_config(network, algorithm=algorithm, optimiser=OptimiserConfig(kind=kind))
    straight = learner_of(config, tasks)
    batches = [batch_of(tasks, seed=seed, recurrent=16) for seed in range(6)]
    for count, batch in enumerate(batches[:3]):
        straight.update(batch, count / 6)
    state = straight.state()
    assert tree_of_plain_things(state)
    resumed = learner_of(config, tasks, seed=9)
    resumed.restore(state)
    assert resumed.version == straight.version == 3
    for learner in (straight, resumed):
        for count, batch in enumerate(batches[3:]):
            learner.update(batch, (3 + count) / 6)
    np.testing.assert_array_equal(straight.weights().vector, resumed.weights().vector)
    np.testing.assert_equal(straight.state(), resumed.state())
    assert straight.metrics() == resumed.metrics()


def test_a_state_is_not_changed_by_later_updates() -> None:
    tasks = vector_tasks(2)
    learner = learner_of(run_config(), tasks)
    learner.update(batch_of(tasks), 0.0)
    state = learner.state()
    frozen = {name: array.copy() for name, array in state["network"]["tensors"].items()}
    moments = {
        position: {name: np.copy(entry) for name, entry in entries.items()}
        for position, entries in state["optimiser"]["parameters"].items()
    }
    learner.update(batch_of(tasks, seed=1), 0.0)
    np.testing.assert_equal(state["network"]["tensors"], frozen)
    np.testing.assert_equal(state["optimiser"]["parameters"], moments)


def test_a_state_of_another_architecture_is_refused_with_the_differences() -> None:
    tasks = vector_tasks(2)
    small, large = run_config(), run_config(NetworkConfig(torso="mlp", hidden=32, lstm=4))
    learner = learner_of(large, tasks)
    before = learner.weights().vector
    with pytest.raises(BadInput) as caught:
        learner.restore(learner_of(small, tasks).state())
    message = str(caught.value)
    assert "hidden 16" in message
    assert "hidden 32, LSTM 4" in message
    assert "memory.from_hidden.weight is absent there and (16, 4) here" in message
    np.testing.assert_array_equal(learner.weights().vector, before)


def test_a_state_of_another_optimiser_is_refused() -> None:
    tasks = vector_tasks(2)
    state = learner_of(run_config(), tasks).state()
    adam = run_config(optimiser=OptimiserConfig(kind="adam"))
    with pytest.raises(BadInput, match="rmsprop_tensorflow, this run's is adam"):
        learner_of(adam, tasks).restore(state)


def test_sum_and_mean_differ_by_the_number_of_valid_steps() -> None:
    tasks = vector_tasks(2)
    norms = {}
    batch = batch_of(tasks)
    for reduction in ("sum", "mean"):
        learner = learner_of(run_config(algorithm=VTraceConfig(loss_reduction=reduction)), tasks)
        learner.update(batch, 0.0)
        norms[reduction] = learner.metrics()["learner/gradient_norm"]
    assert norms["sum"] / norms["mean"] == pytest.approx(batch.valid.sum(), rel=1e-4)


def test_metrics_are_means_since_the_last_call_and_absent_tasks_have_none() -> None:
    tasks = vector_tasks(3)
    learner = learner_of(run_config(), tasks)
    assert set(learner.metrics()) == {"learner/learning_rate", "learner/nonfinite_updates"}
    batch = batch_of(tasks, columns=2, steps=40)
    learner.update(batch, 0.25)
    metrics = learner.metrics()
    assert "task/task1/entropy" in metrics
    assert "task/task2/entropy" not in metrics
    assert metrics["learner/entropy"] == pytest.approx(np.log(4), abs=0.01)
    assert metrics["learner/learning_rate"] == pytest.approx(0.75 * 6e-4)
    ratio = 0.25 / np.exp(batch.behaviour_log_probability[batch.valid])
    assert metrics["learner/ratio_mean"] == pytest.approx(ratio.mean(), rel=0.01)
    assert metrics["learner/ratio_max"] == pytest.approx(ratio.max(), rel=0.02)
    assert metrics["learner/rho_mean"] == pytest.approx(np.minimum(ratio, 1).mean(), rel=0.01)
    of_tasks = [metrics[f"task/task{i}/rho_mean"] * batch.valid[:, i].sum() for i in (0, 1)]
    assert sum(of_tasks) / batch.valid.sum() == pytest.approx(metrics["learner/rho_mean"])
    assert set(learner.metrics()) == {"learner/learning_rate", "learner/nonfinite_updates"}


def test_explained_variance_is_one_for_perfect_values_and_zero_for_none() -> None:
    tasks = vector_tasks(1)
    config = run_config(algorithm=VTraceConfig(discount=1e-9))
    blind = learner_of(config, tasks)
    blind._update.network.value.weight.data.zero_()
    batch = batch_of(tasks, steps=40)
    batch.behaviour_log_probability[:] = -10.0
    blind.update(batch, 0.0)
    assert blind.metrics()["learner/explained_variance"] == pytest.approx(0.0, abs=1e-5)
    seeing = learner_of(config, tasks)
    value = seeing._update.network.unroll(
        *(torch.from_numpy(a) for a in (batch.observation, batch.age, batch.task, batch.recurrent))
    )[1]
    batch.reward[:] = value[:-1].detach().numpy()
    seeing.update(batch, 0.0)
    assert seeing.metrics()["learner/explained_variance"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("learner_kind", ["vtrace", "ppo"])
def test_read_only_batches_are_learned_from_without_a_warning(learner_kind: str) -> None:
    tasks = vector_tasks(2)
    algorithm = VTraceConfig() if learner_kind == "vtrace" else PpoConfig(minibatches=2)
    learner = learner_of(run_config(algorithm=algorithm), tasks)
    batch = batch_of(tasks)
    for name in ("observation", "reward", "action", "valid", "age", "task", "recurrent"):
        getattr(batch, name).flags.writeable = False
    learner.update(batch, 0.0)
    assert learner.version == 1


def test_ppo_at_the_behaviour_policy_has_the_policy_gradient_of_on_policy_vtrace() -> None:
    """With ratio 1, lambda 1 and raw advantages the two losses differ in nothing."""
    tasks = vector_tasks(2)
    network = build_network(tasks, run_config().network, 1)
    batch = batch_of(tasks)
    arrays = (batch.observation, batch.age, batch.task, batch.recurrent)
    logits, _ = network.unroll(*(torch.from_numpy(array) for array in arrays))
    chosen = logits[:-1].log_softmax(-1).gather(-1, torch.from_numpy(batch.action)[..., None])
    batch.behaviour_log_probability[:] = chosen.squeeze(-1).detach().numpy()
    ppo = PpoConfig(
        epochs=1, minibatches=1, gae_lambda=1.0, normalise_advantage=False, loss_reduction="sum"
    )
    vectors = []
    for algorithm in (VTraceConfig(), ppo):
        learner = learner_of(run_config(algorithm=algorithm), tasks)
        learner.update(batch, 0.0)
        vectors.append(learner.weights().vector)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_cuda_without_a_device_is_refused() -> None:
    if torch.cuda.is_available():
        return
    config = RunConfig(
        network=NetworkConfig(torso="mlp", hidden=8), learner=LearnerConfig(device="cuda")
    )
    with pytest.raises(BadInput, match="no CUDA device"):
        learner_of(config, vector_tasks(1))


@pytest.mark.gpu
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("torso", ["shallow", "nature", "impala"])
def test_updates_on_cuda_follow_those_on_the_cpu(torso: Any, algorithm: AlgorithmConfig) -> None:
    tasks = image_tasks(2)
    network = EVERYTHING.model_copy(update={"torso": torso})
    vectors = []
    for device in ("cpu", "cuda"):
        config = RunConfig(
            network=network,
            algorithm=algorithm,
            learner=LearnerConfig(device=device, precision="fp32", compile="off"),
        )
        learner = learner_of(config, tasks)
        for seed in range(3):
            learner.update(batch_of(tasks, seed=seed, recurrent=16), 0.0)
        vectors.append(learner.weights().vector)
        state = learner.state()
        again = learner_of(config, tasks, seed=2)
        again.restore(state)
        np.testing.assert_array_equal(again.weights().vector, vectors[-1])
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-2, atol=1e-3)
