"""One rollout worker: pull newer weights, play an unroll, hand it on."""

from __future__ import annotations

from typing import Any

import numpy as np

from actors.unroller import Unroller
from repertory.ports import State, WeightSource
from repertory.types import Unroll


class RolloutWorker:
    """What both runtimes run; how an unroll travels is the runtime's business."""

    def __init__(
        self, unroller: Unroller, weights: WeightSource, generators: list[np.random.Generator]
    ) -> None:
        self._unroller = unroller
        self._weights = weights
        self._generators = generators

    def iterate(self) -> Unroll:
        """Pull weights if newer ones were published, then play one unroll."""
        newer = self._weights.newer_than(self._unroller.version)
        if newer is not None:
            self._unroller.load(newer)
        return self._unroller.unroll()

    @property
    def lane_shapes(self) -> list[tuple[int, ...]]:
        """The number of lanes of each group, to tell whether a saved state fits."""
        return self._unroller.lane_shapes

    def state(self) -> State:
        """Return the unroller's state and the sampling streams'."""
        return {
            "unroller": self._unroller.state(),
            "generators": [_generator_state(g) for g in self._generators],
        }

    def restore(self, state: State) -> None:
        """Take up `state`. Weights are pulled at the next iteration."""
        self._unroller.restore(state["unroller"])
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved

    def close(self) -> None:
        """Free environments and threads."""
        self._unroller.close()


def _generator_state(generator: np.random.Generator) -> dict[str, Any]:
    return dict(generator.bit_generator.state)
