"""Runs the same updates compiled and plain; a program, since shape checks cannot be compiled.

Prints one JSON object: the largest differences, and what was warned of.
"""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import torch
from synthetic import batch_of, image_tasks, learner_of, run_config, vector_tasks

from repertory.config import NetworkConfig, PopArtConfig, PpoConfig, VTraceConfig


class Warnings(logging.Handler):
    """Keeps what is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record.getMessage())


def main(algorithm: str, torso: str) -> None:
    """Compare three updates."""
    torch.set_num_threads(1)
    warnings = Warnings()
    logging.getLogger("learner").addHandler(warnings)
    tasks = vector_tasks(2) if torso == "mlp" else image_tasks(2, side=36)
    network = NetworkConfig(
        torso="mlp" if torso == "mlp" else "shallow", hidden=16, popart=PopArtConfig(enabled=True)
    )
    rule = VTraceConfig() if algorithm == "vtrace" else PpoConfig(minibatches=2, epochs=1)
    vectors, metrics = [], []
    for setting in ("off", "on"):
        config = run_config(network, algorithm=rule)
        learner_config = config.learner.model_copy(update={"compile": setting})
        learner = learner_of(config.model_copy(update={"learner": learner_config}), tasks)
        for seed in range(3):
            learner.update(batch_of(tasks, seed=seed), 0.0)
        vectors.append(learner.weights().vector)
        metrics.append(learner.metrics())
    apart = max(abs(metrics[0][name] - metrics[1][name]) for name in metrics[0])
    weights_apart = float(np.abs(vectors[0] - vectors[1]).max())
    print(json.dumps({"weights": weights_apart, "metrics": apart, "warnings": warnings.lines}))


if __name__ == "__main__":
    main(*sys.argv[1:])
