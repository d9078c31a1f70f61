"""Two learners with half of each batch are one learner with all of it; both stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from off_policy import box_tasks, off_policy_config, replayed
from several_learners import together
from synthetic import batch_of, run_config, vector_tasks

from learner.batches import arrays_of, columns_of
from learner.parallel.exchange import ALONE, Exchange
from learner.sac import SacLearner
from learner.td3 import Td3Learner
from learner.vtrace import VTraceLearner
from repertory.config import (
    GradientConfig,
    NetworkConfig,
    OptimiserConfig,
    PopArtConfig,
    RunConfig,
    SacConfig,
    Td3Config,
    VTraceConfig,
)
from repertory.networks.actor_critic import build_network
from repertory.networks.control_agent import build_agent
from repertory.types import ReplayBatch, Unroll

UPDATES = 4
LEARNERS = 2
POISONED = 2
"""The update whose batch has a reward that is not a number, in the last learner's part."""


def on_policy(
    *, popart: bool = True, reduction: Any = "mean", clip_norm: float = 40.0, measured: int = 0
) -> RunConfig:
    network = NetworkConfig(
        torso="mlp", hidden=16, lstm=8, conditioning="one_hot", popart=PopArtConfig(enabled=popart)
    )
    return run_config(
        network,
        algorithm=VTraceConfig(loss_reduction=reduction),
        optimiser=OptimiserConfig(kind="adam", learning_rate=0.01, clip_norm=clip_norm),
        gradients=GradientConfig(metrics_every=measured),
    )


RUNS: dict[str, RunConfig] = {
    "vtrace, summed": on_policy(popart=False, reduction="sum"),
    "vtrace, mean": on_policy(popart=False),
    "vtrace, PopArt": on_policy(),
    "vtrace, clipped": on_policy(reduction="sum", clip_norm=0.5),
    "vtrace, gradients measured": on_policy(measured=2),
    "sac": off_policy_config(SacConfig(rescale="inverse_temperature")),
    "sac, maskout": off_policy_config(SacConfig(maskout=7.0, maskout_from=0), heads="per_task"),
    "td3": off_policy_config(Td3Config()),
}


def learner_of(config: RunConfig, exchange: Exchange) -> Any:
    match config.algorithm:
        case VTraceConfig():
            tasks = vector_tasks(2)
            return VTraceLearner(
                build_network(tasks, config.network, 1), config, tasks, exchange=exchange
            )
        case SacConfig():
            tasks = box_tasks(2)
            return SacLearner(build_agent(tasks, config, 1), config, tasks, exchange=exchange)
        case _:
            tasks = box_tasks(2)
            return Td3Learner(build_agent(tasks, config, 1), config, tasks, exchange=exchange)


def batch(config: RunConfig, number: int, rank: int | None, *, poison: bool) -> Any:
    """Return the whole of a batch, or one learner's part of it."""
    if isinstance(config.algorithm, VTraceConfig):
        whole = batch_of(vector_tasks(2), columns=8, seed=number, recurrent=16)
        if poison and number == POISONED:
            whole.reward[0, -1], whole.valid[0, -1] = np.nan, True
        return whole if rank is None else columns_part(whole, rank)
    rows = replayed(box_tasks(2), each=6, seed=number)
    if poison and number == POISONED:
        rows.reward[-1] = np.nan
    return rows if rank is None else rows_part(rows, rank)


def columns_part(whole: Unroll, rank: int) -> Unroll:
    return columns_of(arrays_of(whole), np.arange(4) + 4 * rank)


def rows_part(whole: ReplayBatch, rank: int) -> ReplayBatch:
    fields = {
        name: getattr(whole, name).reshape(2, LEARNERS, 3, -1)[:, rank].reshape(6, -1)
        for name in ("observation", "action", "next_observation")
    }
    flat = {
        name: getattr(whole, name).reshape(2, LEARNERS, 3)[:, rank].reshape(6)
        for name in ("task", "reward", "terminated", "truncated")
    }
    return ReplayBatch(**fields, **flat, success_rate=whole.success_rate)


def learned(exchange: Exchange, names: list[str], poison: bool, rank: int | None) -> dict[str, Any]:
    """Return each run's states after each update, and its metrics after the last."""
    found = {}
    for name in names:
        learner = learner_of(RUNS[name], exchange)
        states = []
        for number in range(UPDATES):
            learner.update(batch(RUNS[name], number, rank, poison=poison), 0.1 * number)
            states.append(learner.state())
        found[name] = states, learner.metrics()
    return found


def as_one_of_several(exchange: Exchange, names: list[str], poison: bool) -> dict[str, Any]:
    return learned(exchange, names, poison, exchange.rank)


@pytest.fixture(scope="module")
def beside() -> list[dict[str, Any]]:
    """What each of two learners found, all runs in one start of their processes."""
    return together(as_one_of_several, list(RUNS), False)


@pytest.fixture(scope="module")
def poisoned() -> list[dict[str, Any]]:
    return together(as_one_of_several, ["vtrace, clipped", "sac"], True)


def weights_of(state: dict[str, Any]) -> dict[str, np.ndarray]:
    networks = state["networks"] if "networks" in state else {"": state["network"]}
    return {
        f"{part} {name}": tensor
        for part, one in networks.items()
        for name, tensor in one["tensors"].items()
    }


@pytest.mark.parametrize("name", RUNS)
def test_two_learners_with_half_a_batch_each_are_one_with_the_whole(
    name: str, beside: list[dict[str, Any]]
) -> None:
    states, metrics = learned(ALONE, [name], False, None)[name]
    theirs, their_metrics = beside[0][name]
    start = weights_of(learner_of(RUNS[name], ALONE).state())
    for own, other in zip(states, theirs, strict=True):
        assert own["nonfinite"] == other["nonfinite"] == 0
        for part, whole in weights_of(own).items():
            np.testing.assert_allclose(
                weights_of(other)[part], whole, rtol=2e-4, atol=2e-6, err_msg=part
            )
    moved = [np.abs(part - start[k]).max() for k, part in weights_of(states[-1]).items()]
    assert max(moved) > 1e-3
    for key, value in metrics.items():
        # Cosines between tasks' gradients are measured in each learner's own part, and recorded.
        if "cosine" in key or "conflict" in key:
            continue
        assert their_metrics[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


@pytest.mark.parametrize("name", RUNS)
def test_the_learners_of_a_run_stay_the_same_to_the_bit(
    name: str, beside: list[dict[str, Any]]
) -> None:
    first, second = (found[name][0] for found in beside)
    for own, other in zip(first, second, strict=True):
        np.testing.assert_equal(
            {key: part for key, part in own.items() if key != "gradients"},
            {key: part for key, part in other.items() if key != "gradients"},
        )


@pytest.mark.parametrize("name", ["vtrace, clipped", "sac"])
def test_what_is_not_finite_in_one_learner_s_part_is_skipped_by_both(
    name: str, poisoned: list[dict[str, Any]]
) -> None:
    for found in poisoned:
        states, _ = found[name]
        assert [state["nonfinite"] for state in states] == [0, 0, 1, 1]
        before, after = weights_of(states[POISONED - 1]), weights_of(states[POISONED])
        np.testing.assert_equal(before, after)
        assert all(np.isfinite(part).all() for part in weights_of(states[-1]).values())
    np.testing.assert_equal(*(weights_of(found[name][0][-1]) for found in poisoned))
