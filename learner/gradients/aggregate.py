"""The tasks' gradients made one by the run's method, and measured against each other.

Axes: M tasks, K tasks that count, P shared weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from learner.gradients.cosines import CosineReport, cosines
from learner.gradients.gradnorm import GradNormState, first_state, gradnorm_step
from learner.gradients.pcgrad import gram, independent_orders, pcgrad_weights
from learner.gradients.torchjd_adapter import TorchjdAggregator
from repertory import seeding
from repertory.config import GradientConfig
from repertory.errors import BadInput


class GradientSurgery:
    """A run's method, its random orders and weights, and the last cosines of each part.

    A part is a set of parameters with an optimiser of its own: an actor's, both critics', or, as
    "", all of an actor-critic network's. GradNorm weighs critics only: the ratios of losses that
    it goes by mean nothing where a loss may be below zero.
    """

    def __init__(self, config: GradientConfig, names: Sequence[str], seed: int) -> None:
        # Under masks one task's gradient is the joint one: it may wear a mask it was given.
        if len(names) == 1 and config.method not in ("mean", "harmony"):
            raise BadInput(
                f"gradients.method {config.method} joins the gradients of several tasks, and this "
                "run has one: use mean"
            )
        self._config, self._names, self._tasks = config, list(names), len(names)
        self._generator = torch.Generator().manual_seed(
            seeding.integer(seed, "learner", "gradients")
        )
        self._gradnorm = first_state(self._tasks)
        self._torchjd: dict[str, TorchjdAggregator] = {}
        if config.method.startswith("torchjd:"):
            # Found out now, not in the first update.
            TorchjdAggregator(config)
        self.cosines: dict[str, Float64[Tensor, "M M"]] = {}
        """Of each part, at the last measurement."""
        self._unread: list[str] = []
        self.sums = CosineReport()
        """Of all measurements since they were last read."""

    def keeps_apart(self, part: str) -> bool:
        """Whether this part's direction needs each task's gradient by itself."""
        method = self._config.method
        return method not in ("mean", "harmony") and not (method == "gradnorm" and part == "actor")

    def measures(self, version: int) -> bool:
        """Whether the update after `version` others is one whose cosines are measured."""
        every = self._config.metrics_every
        # Under masks, cosines are of masked gradients and come with the masks' other metrics.
        return (
            self._config.method != "harmony"
            and self._tasks > 1
            and every > 0
            and (version + 1) % every == 0
        )

    def measure(
        self,
        part: str,
        products: Float64[Tensor, "M M"],
        overlap: Float[Tensor, "M M"] | None = None,
    ) -> None:
        """Keep cosines for the next report, and masks' overlap.

        `products` are the inner products of the tasks' gradients.
        """
        self.cosines[part] = cosines(products)
        shared = None if overlap is None else overlap.double().cpu().numpy()
        self.sums.add(part, self.cosines[part], shared)
        if part not in self._unread:
            self._unread.append(part)

    def direction(
        self,
        part: str,
        rows: Float[Tensor, "M P"],
        *,
        kept: Bool[Tensor, " M"],
        losses: Float[Tensor, " M"],
        last: slice,
    ) -> Float[Tensor, " P"]:
        """Return one gradient out of the tasks', on the scale of their mean.

        Tasks that are not kept have rows of zeros. They count in the mean's denominator, as in
        the plain update, and no method gets to see them. `losses` are what GradNorm goes by,
        `last` the columns of the last shared layer. A row that is not finite gives the mean,
        which is not finite either, and leaves orders and weights as they were.
        """
        if not self.keeps_apart(part):
            return rows.mean(0)
        products = gram(rows) if self._config.method == "pcgrad" else None
        # By lengths: a look at every entry costs a fifth of an update.
        lengths = torch.linalg.vector_norm(rows, dim=1) if products is None else products.diagonal()
        seen = torch.where(kept, losses.detach(), 0.0)
        if not bool(lengths.isfinite().all() & seen.isfinite().all()):
            return rows.mean(0)
        if self._config.method == "gradnorm":
            return self._weighted(rows, kept, losses, last)
        index = kept.nonzero().squeeze(1)
        counted = index.shape[0]
        if counted < 2:
            return rows.mean(0)
        share = counted / self._tasks
        if products is not None:
            weights = rows.new_zeros(self._tasks)
            order = independent_orders(counted, self._generator)
            weights[index] = share * pcgrad_weights(products[index][:, index], order).to(rows)
            return weights @ rows
        if part not in self._torchjd:
            self._torchjd[part] = TorchjdAggregator(self._config)
        chosen = rows if counted == self._tasks else rows[index]
        return share * self._torchjd[part](chosen, self._generator)

    def _weighted(
        self,
        rows: Float[Tensor, "M P"],
        kept: Bool[Tensor, " M"],
        losses: Float[Tensor, " M"],
        last: slice,
    ) -> Float[Tensor, " P"]:
        weights = self._gradnorm.weights
        self._gradnorm = gradnorm_step(
            self._gradnorm,
            norms=torch.linalg.vector_norm(rows[:, last], dim=1).double().cpu(),
            losses=losses.detach().double().cpu(),
            kept=kept.cpu(),
            asymmetry=self._config.gradnorm_asymmetry,
            learning_rate=self._config.gradnorm_learning_rate,
        )
        return weights.to(rows) @ rows / self._tasks

    def metrics(self) -> dict[str, float]:
        """Return cosines measured since the last call, over pairs of tasks, and the weights now."""
        found: dict[str, float] = {}
        for part in self._unread:
            above = torch.ones(self._tasks, self._tasks, dtype=torch.bool).triu(1)
            pairs = self.cosines[part][above]
            pairs = pairs[pairs.isfinite()]
            if pairs.numel():
                ending = f"_{part}" if part else ""
                found[f"learner/gradient_cosine_mean{ending}"] = float(pairs.mean())
                found[f"learner/gradient_cosine_min{ending}"] = float(pairs.min())
        self._unread = []
        if self._config.method.startswith("torchjd:"):
            counts = (aggregator.fallbacks for aggregator in self._torchjd.values())
            found["learner/gradient_fallbacks"] = float(sum(counts))
        if self._config.method == "gradnorm":
            for name, weight in zip(self._names, self._gradnorm.weights.tolist(), strict=True):
                found[f"task/{name}/gradient_weight"] = weight
        return found

    def state(self) -> dict[str, Any]:
        """Return everything that the next direction and the next report depend on."""
        return {
            "method": self._config.method,
            "generator": self._generator.get_state().numpy().copy(),
            "gradnorm": {
                name: entry.numpy().copy() for name, entry in self._gradnorm._asdict().items()
            },
            "torchjd": {part: one.state() for part, one in self._torchjd.items()},
            "cosines": {part: one.numpy().copy() for part, one in self.cosines.items()},
            "unread": list(self._unread),
            "sums": self.sums.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state; BadInput if another method left it."""
        theirs, own = state["method"], self._config.method
        if theirs != own:
            raise BadInput(f"the checkpoint's gradients.method is {theirs}, this run's is {own}")
        self._generator.set_state(torch.tensor(state["generator"]))
        self._gradnorm = GradNormState(
            **{name: _tensor(state["gradnorm"][name]) for name in GradNormState._fields}
        )
        for part, one in state["torchjd"].items():
            self._torchjd[part] = TorchjdAggregator(self._config)
            self._torchjd[part].restore(one)
        self.cosines = {part: _tensor(one) for part, one in state["cosines"].items()}
        self._unread = list(state["unread"])
        # Runs from before maps were kept have no sums.
        self.sums.restore(state.get("sums", {}))


def _tensor(array: np.ndarray) -> Float64[Tensor, "*shape"]:
    return torch.tensor(array, dtype=torch.float64)
