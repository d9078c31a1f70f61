"""Where all tasks' gradients would not fit, mask updates and metrics come to the same without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from off_policy import box_tasks, off_policy_config, off_policy_learner, replayed
from synthetic import batch_of, learner_of, run_config, vector_tasks
from test_harmony_learners import OFTEN, small_learner, under_masks
from test_sac_td3_learners import assert_same

from learner.masks.keeper import MaskKeeper
from repertory.config import NetworkConfig, OptimiserConfig, SacConfig, Td3Config

ALGORITHMS = ["sac", "td3", "vtrace"]


def keepers_of(learner: Any, algorithm: str) -> dict[str, MaskKeeper]:
    if algorithm == "vtrace":
        return {"": learner._update.masks}
    return dict(learner._update.masks._keepers)


def still_learner(algorithm: str, **settings: Any) -> tuple[Any, Any]:
    """Return a learner whose steps vanish beside its weights, and how it sees a batch of a seed."""
    still = OptimiserConfig(kind="adam", learning_rate=1e-30, anneal="none")
    if algorithm == "vtrace":
        actors, wide = (
            vector_tasks(3),
            NetworkConfig(torso="mlp", hidden=16, conditioning="one_hot"),
        )
        config = under_masks(run_config(wide, optimiser=still), **settings)
        learner = learner_of(config, actors, 1)
        return learner, lambda seed: learner.update(batch_of(actors, columns=6, seed=seed), 0.5)
    tasks = box_tasks(3)
    made = Td3Config(policy_delay=1) if algorithm == "td3" else SacConfig()
    config = under_masks(off_policy_config(made, optimiser=still), **settings)
    other = off_policy_learner(config, tasks, 1)
    return other, lambda seed: other.update(replayed(tasks, seed=seed), 0.5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("variant", ["fisher", "magnitude"])
def test_masks_come_out_the_same_whether_gradients_are_held_or_computed_again(
    algorithm: str, variant: str
) -> None:
    # Weights do not move, so that it does not matter when gradients are computed.
    settings: dict[str, Any] = {**OFTEN, "variant": variant, "every": 2, "metrics_every": 3}
    found = {}
    for name, most in (("held", 2**30), ("streamed", 1000)):
        learner, update = still_learner(algorithm, **settings, gradient_bytes=most)
        keepers = keepers_of(learner, algorithm)
        assert {keeper.holds for keeper in keepers.values()} == {name == "held"}
        for seed in range(6):
            update(seed)
        assert [keeper.packed.version for keeper in keepers.values()] == [3] * len(keepers)
        found[name] = {part: keeper.packed.bits for part, keeper in keepers.items()}
    for part, bits in found["held"].items():
        np.testing.assert_array_equal(bits, found["streamed"][part])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_metrics_in_parts_are_those_of_the_whole(algorithm: str) -> None:
    told = []
    for most in (2**30, 1500):
        learner, update = small_learner(
            algorithm, variant="random", metrics_every=1, gradient_bytes=most
        )
        (keeper, *_) = keepers_of(learner, algorithm).values()
        parts = -(-keeper.layout.total // keeper._at_once)
        assert (parts == 1) == (most == 2**30)
        update(learner, 0)
        told.append((learner.metrics(), learner.cosines()))
    (whole, sums), (parted, others) = told
    assert [name for name in whole if "harmony_layer" in name]
    assert parted == pytest.approx(whole, abs=1e-6, nan_ok=True)
    for one, other in zip(sums, others, strict=True):
        np.testing.assert_allclose(one.sums, other.sums, atol=1e-6)
        np.testing.assert_array_equal(one.counts, other.counts)


def test_measurements_can_be_left_out() -> None:
    for every in (0, 1):
        learner, update = small_learner("sac", variant="random", metrics_every=every)
        for seed in range(2):
            update(learner, seed)
        found = [name for name in learner.metrics() if "harmony" in name or "overlap" in name]
        assert bool(found) == bool(every)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_restored_learner_goes_on_with_the_batches_that_wait(algorithm: str) -> None:
    settings = {**OFTEN, "gradient_bytes": 1000}
    learner, update = small_learner(algorithm, **settings)
    other, _ = small_learner(algorithm, seed=9, **settings)
    for seed in range(5):  # In the middle of scoring: the next update changes masks.
        update(learner, seed)
    assert all(len(k._waiting) == 1 for k in keepers_of(learner, algorithm).values())
    other.restore(learner.state())
    for seed in range(5, 8):
        update(learner, seed)
        update(other, seed)
    assert learner.weights().masks[0].version == 2
    pairs = zip(
        keepers_of(learner, algorithm).values(), keepers_of(other, algorithm).values(), strict=True
    )
    for one, same in pairs:
        np.testing.assert_array_equal(one.packed.bits, same.packed.bits)
        mine, theirs = one.state()["waiting"], same.state()["waiting"]
        assert len(mine) == len(theirs) == 1
        assert_same(mine[0], theirs[0])
    np.testing.assert_array_equal(learner.weights().vector, other.weights().vector)


def test_what_waits_is_a_copy_that_nobody_writes_to() -> None:
    learner, _ = small_learner("vtrace", **{**OFTEN, "gradient_bytes": 1000})
    tasks = vector_tasks(3)
    for seed in range(2):
        batch = batch_of(tasks, columns=6, seed=seed)
        learner.update(batch, 0.5)
    (rows,) = learner._update.masks._waiting
    kept = rows["reward"].copy()
    batch.reward[:] = np.nan
    np.testing.assert_array_equal(rows["reward"], kept)
    assert learner._update.masks._totals == []
