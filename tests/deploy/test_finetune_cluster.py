"""Fine-tuning on Ray: the learner begins with the weights that the driver sent, and keeps what is
frozen.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from finetuned_runs import child_config, learner_of, networks_of, pretrained
from off_policy_runs import counting_control_config
from small_runs import counting_config, new_run

from deploy import cluster
from repertory.config import ActorConfig, NetworkConfig, RunConfig, SacConfig

ACTORS = ActorConfig(count=1, lanes=6, precision="fp32").model_dump()
RUNS = {
    "vtrace": (
        counting_config(network=NetworkConfig(torso="mlp", hidden=16, conditioning="one_hot")),
        ("network", "torso."),
    ),
    "sac": (
        counting_control_config(algorithm=SacConfig(exploration_steps=20, exploration="policy")),
        ("agent", "actor.weights."),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_on_ray_a_frozen_torso_stays_that_of_the_earlier_run_which_a_resumed_run_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before, (network, frozen) = RUNS[kind]
    path = pretrained(tmp_path, before)
    theirs = networks_of(learner_of(path))[network]
    # A relative path means nothing to processes that start elsewhere.
    monkeypatch.chdir(tmp_path)
    config: RunConfig = child_config(
        Path(path.name),
        "counting/4",
        reuse="frozen-torso",
        runtime="cluster",
        actors=ACTORS,
        total_steps=600,
    )
    run = new_run(tmp_path, config, "child")
    assert cluster.train(config, run, False) == 0
    shutil.rmtree(path)
    assert cluster.train(config.model_copy(update={"total_steps": 1200}), run, True) == 0
    own = networks_of(learner_of(run.path))[network]
    kept = [name for name in own if name.startswith(frozen)]
    assert kept
    for name in kept:
        np.testing.assert_array_equal(own[name], theirs[name], err_msg=name)
    head = "policy.weight" if kind == "vtrace" else "actor.head_weight"
    assert not np.array_equal(own[head], theirs[head])
