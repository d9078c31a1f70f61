"""A run that ends because nothing is finite any more leaves the batch that ended it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from off_policy import box_tasks, off_policy_config, off_policy_learner, replayed
from safetensors.numpy import load_file
from synthetic import batch_of, learner_of, run_config, vector_tasks

from deploy.last_batch import with_batch_kept
from learner.loop import LearnerLoop
from repertory.config import RunConfig
from repertory.errors import NumericalFailure

# Squared, such a target is more than float32 holds.
HOPELESS = ("--algorithm.reward_scale", "1e30", "--learner.nonfinite_limit", "2")


def test_a_hopeless_run_ends_with_code_4_and_names_the_file_of_its_last_batch(command):
    outcome = command("train", "pointmass", *HOPELESS, "--name", "run")
    assert outcome.code == 4
    last = outcome.err.splitlines()[-1]
    assert "not finite in 2 updates in a row" in last
    path = Path("runs/run/nonfinite_batch.safetensors")
    assert last.endswith(f"the last update's batch is in {path}")
    batch = load_file(path)
    rows = len(batch["reward"])
    assert rows > 0
    assert batch["observation"].shape[0] == batch["action"].shape[0] == rows
    # What broke it is not in the batch: so rewards are ruled out.
    assert np.isfinite(batch["reward"]).all()


def at_once(config: RunConfig) -> RunConfig:
    """Return a run that ends with its first update that is not finite."""
    changed = config.learner.model_copy(update={"nonfinite_limit": 1})
    return config.model_copy(update={"learner": changed})


@pytest.mark.parametrize("kind", ["unrolls", "replayed"])
def test_a_batch_crosses_processes_with_its_failure_and_is_kept_array_by_array(tmp_path, kind):
    poisoned = np.float32("nan")
    if kind == "unrolls":
        tasks = vector_tasks(2)
        config = run_config()
        batch = batch_of(tasks)
        learner = learner_of(at_once(config), tasks)
    else:
        tasks = box_tasks(2)
        batch = replayed(tasks)
        learner = off_policy_learner(at_once(off_policy_config()), tasks)
    batch.reward[:] = poisoned
    loop = LearnerLoop(learner, print, publish_every=1, progress=lambda: 0.0)
    with pytest.raises(NumericalFailure) as raised:
        loop.update(batch)
    sentence = str(raised.value)
    failure = with_batch_kept(pickle.loads(pickle.dumps(raised.value)), tmp_path)
    (path,) = tmp_path.iterdir()
    assert str(failure) == f"{sentence}; the last update's batch is in {path}"
    kept = load_file(path)
    assert {"task", "observation", "action", "reward", "terminated"} <= kept.keys()
    for name, array in kept.items():
        np.testing.assert_array_equal(array, getattr(batch, name))


def test_a_failure_without_a_batch_or_without_room_for_it_stays_as_it_was(tmp_path):
    failure = NumericalFailure("not finite")
    assert with_batch_kept(failure, tmp_path) is failure
    failure.batch = replayed(box_tasks(2))
    assert with_batch_kept(failure, tmp_path / "gone") is failure
    assert list(tmp_path.iterdir()) == []
