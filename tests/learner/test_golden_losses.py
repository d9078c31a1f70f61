"""First updates on fixed synthetic batches against numbers on record.

A change of numbers is remade, and said in its commit, with
`PYTHONPATH=tests python tests/learner/test_golden_losses.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from synthetic import batch_of, image_tasks, learner_of, run_config

from repertory.config import AlgorithmConfig, NetworkConfig, PopArtConfig, PpoConfig, VTraceConfig

RECORD = Path(__file__).parent.parent / "golden" / "first_losses.json"
POPART = PopArtConfig(enabled=True)
NETWORKS = {
    "shallow": NetworkConfig(torso="shallow"),
    "nature": NetworkConfig(torso="nature", hidden=512, conditioning="one_hot"),
    "impala": NetworkConfig(torso="impala", conditioning="embedding", popart=POPART),
    "shallow-lstm": NetworkConfig(torso="shallow", lstm=32, popart=POPART),
}
ALGORITHMS: dict[str, AlgorithmConfig] = {
    "vtrace": VTraceConfig(),
    "ppo": PpoConfig(minibatches=2, epochs=2),
}
CASES = [f"{algorithm}/{network}" for algorithm in ALGORITHMS for network in NETWORKS]


def first_metrics(case: str) -> dict[str, float]:
    """Return the metrics over three updates from a seeded start."""
    algorithm, network = case.split("/")
    tasks = image_tasks(2)
    learner = learner_of(run_config(NETWORKS[network], algorithm=ALGORITHMS[algorithm]), tasks)
    for seed in range(3):
        recurrent = 2 * NETWORKS[network].lstm
        learner.update(batch_of(tasks, seed=seed, recurrent=recurrent), 0.5)
    metrics: dict[str, float] = learner.metrics()
    return metrics


@pytest.mark.parametrize("case", CASES)
def test_first_updates_are_the_ones_on_record(case: str) -> None:
    recorded = json.loads(RECORD.read_text())[case]
    assert first_metrics(case) == pytest.approx(recorded, rel=2e-3, abs=1e-5)


def remake() -> None:
    """Write the record anew."""
    torch.set_num_threads(1)
    record = {case: first_metrics(case) for case in CASES}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    remake()
