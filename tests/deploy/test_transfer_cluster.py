"""Transfer on Ray: only the driver sees the experts' directories."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import new_run
from transfer_runs import EXPERT, expert_run, student_config

from deploy import cluster
from deploy.experts import expert_arrays, with_experts
from repertory import checkpoint
from repertory.config import ActorConfig
from repertory.ports import State
from repertory.run_directory import RunDirectory


def experts_of(state: State) -> dict[str, np.ndarray]:
    tensors = state["learner"]["networks"]["agent"]["tensors"]
    start = "experts.actors.0."
    return {n.removeprefix(start): a for n, a in tensors.items() if n.startswith(start)}


@pytest.mark.slow
def test_lent_weights_reach_workers_and_checkpoints_and_outlive_their_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = expert_run(tmp_path)
    # A relative path means nothing to processes that start elsewhere.
    monkeypatch.chdir(tmp_path)
    config = with_experts(
        student_config(
            Path(path.name),
            runtime="cluster",
            saved=True,
            actors=ActorConfig(count=1, lanes=4, precision="fp32"),
            total_steps=1500,
        )
    )
    ((name, lent),) = expert_arrays(config)
    assert name == "door"
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    held = experts_of(state)
    assert held.keys() == lent.keys()
    for key, array in lent.items():
        np.testing.assert_array_equal(held[key], array)
    # Windows that the expert played came back from the worker.
    assert played_by_expert(state) > 50

    shutil.rmtree(path)
    saved, _ = RunDirectory.open(run.path).read_config()
    longer = saved.model_copy(update={"total_steps": 2500})
    assert cluster.train(longer, run, True) == 0
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    assert state["counters"]["env_steps"] >= 2500
    for key, array in lent.items():
        np.testing.assert_array_equal(experts_of(state)[key], array)


def played_by_expert(state: State) -> int:
    """Return how many of the replay's windows the expert played."""
    found: list[np.ndarray] = []
    _collect(state["experience"], found)
    return sum(int((guide == EXPERT).sum()) for guide in found)


def _collect(part: Any, found: list[np.ndarray]) -> None:
    match part:
        case {"guide": np.ndarray() as guide}:
            found.append(guide)
        case dict():
            for inner in part.values():
                _collect(inner, found)
        case list():
            for inner in part:
                _collect(inner, found)
        case _:
            pass
