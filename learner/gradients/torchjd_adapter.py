"""torchjd's aggregators as functions of a Jacobian, on the scale of the mean.

Axes: K tasks that count, P shared weights.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repertory.config.gradients import GradientConfig, missing_sentence
from repertory.errors import BadInput

logger = logging.getLogger(__name__)

ADDING = ("torchjd:pcgrad", "torchjd:graddrop", "torchjd:config")
"""Methods whose result for K equal gradients is K times one of them, not one.

Nash-MTL's and FairGrad's have a length of their own, whatever that of the gradients.
"""


class TorchjdAggregator:
    """One of torchjd's aggregators, called as aggregator(J) and nothing else.

    BadInput where a package is missing.
    """

    def __init__(self, config: GradientConfig) -> None:
        missing = missing_sentence(config.method)
        if missing:
            raise BadInput(missing)
        self._config = config
        self._aggregator: Any = None
        self._tasks = 0
        self._nash: np.ndarray | None = None
        self.fallbacks = 0
        """How often a solver gave nothing usable and the mean took its place."""

    def __call__(
        self, rows: Float[Tensor, "K P"], generator: torch.Generator
    ) -> Float[Tensor, " P"]:
        """Return the direction, of the mean's scale; the mean itself if the solver fails.

        Methods that draw do so from a seed out of `generator`, not from torch's global state.
        """
        tasks = rows.shape[0]
        if self._aggregator is None or tasks != self._tasks:
            self._aggregator, self._tasks = self._build(tasks), tasks
        seed = int(torch.randint(2**31, (), generator=generator))
        devices = [rows.device] if rows.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices), torch.no_grad():
                torch.manual_seed(seed)
                direction: Tensor = self._aggregator(rows)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            return self._mean(rows, str(error))
        if not bool(direction.isfinite().all()):
            return self._mean(rows, "its result is not finite")
        return direction / tasks if self._config.method in ADDING else direction

    def state(self) -> dict[str, Any]:
        """Return what the next direction depends on: Nash-MTL starts from its last solution."""
        nash = self._nash
        if self._aggregator is not None and self._config.method == "torchjd:nashmtl":
            nash = np.array(self._aggregator.weighting.prvs_alpha)
        return {"fallbacks": self.fallbacks, "nash": nash}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state from `state()`."""
        self.fallbacks, self._nash = int(state["fallbacks"]), state["nash"]
        self._aggregator = None

    def _mean(self, rows: Tensor, reason: str) -> Tensor:
        self.fallbacks += 1
        logger.warning("%s gave way to the mean: %s", self._config.method, reason)
        return rows.mean(0)

    def _build(self, tasks: int) -> Any:
        from torchjd import aggregation

        config = self._config
        match config.method.removeprefix("torchjd:"):
            case "upgrad":
                return aggregation.UPGrad()
            case "cagrad":
                return aggregation.CAGrad(c=config.cagrad_radius)
            case "nashmtl":
                nash = aggregation.NashMTL(n_tasks=tasks, max_norm=config.nashmtl_max_norm)
                # Of a checkpoint, for the first direction after it: a run that never stopped
                # begins anew whenever the number of tasks that count changes.
                saved, self._nash = self._nash, None
                if saved is not None and saved.shape == (tasks,):
                    nash.weighting.prvs_alpha = saved
                return nash
            case "mgda":
                return aggregation.MGDA()
            case "alignedmtl":
                return aggregation.AlignedMTL()
            case "imtlg":
                return aggregation.IMTLG()
            case "dualproj":
                return aggregation.DualProj()
            case "fairgrad":
                return aggregation.FairGrad(alpha=config.fairgrad_alpha)
            case "graddrop":
                return aggregation.GradDrop()
            case "config":
                return aggregation.ConFIG()
            case "pcgrad":
                return aggregation.PCGrad()
            case _:
                raise ValueError(f"{config.method} is none of torchjd's methods")
