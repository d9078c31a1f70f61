"""What every actor-critic learner shares: device, precision, the guarded step, metrics, state."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from learner.batches import TensorBatch, to_device
from learner.compilation import compiling_pays
from learner.frozen import trained_parameters
from learner.gradients.aggregate import GradientSurgery
from learner.masks.keeper import MaskKeeper
from learner.network_state import network_state, restore_network
from learner.optimisers import (
    build_optimiser,
    clip_by_global_norm,
    global_norm,
    learning_rate_at,
    optimiser_state,
    restore_optimiser,
    set_learning_rate,
)
from learner.parallel.exchange import ALONE, Exchange
from learner.popart import HeadUpdate, accept
from learner.skipped_updates import SkippedUpdates
from learner.update_metrics import Report, UpdateMetrics, report_of_parts, report_parts
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.networks.actor_critic import ActorCritic
from repertory.networks.flat import to_vector
from repertory.networks.kept_memory import keep_freed_memory
from repertory.networks.layers import use_channels_last, wants_channels_last
from repertory.networks.precision import number_format
from repertory.networks.stacking import FrameStacker
from repertory.types import TaskSpec, Unroll, Weights

logger = logging.getLogger(__name__)


class LossOutput(NamedTuple):
    """A loss, what is to be reported of it, and what the value head becomes if it is accepted."""

    loss: Float[Tensor, ""]
    report: Report
    head: HeadUpdate | None
    value_rows: Float[Tensor, "T B"] | None = None
    """Without a gradient; only for those that go by each task's critic loss."""


def choose_device(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device that a setting names; `auto` takes CUDA where there is one."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if setting == "cuda" and not torch.cuda.is_available():
        raise BadInput("learner.device is cuda, but torch finds no CUDA device; use auto or cpu")
    return torch.device(setting)


class ActorCriticUpdate:
    """One network, its optimiser and its counters.

    A loss or gradient norm that is not finite leaves every weight, statistic and moment as it
    was, bit for bit; deciding that reads one flag from the device per step.
    """

    def __init__(
        self,
        network: ActorCritic,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        device: torch.device | None,
        exchange: Exchange = ALONE,
    ) -> None:
        self._exchange = exchange
        self.device = device or choose_device(config.learner.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.network = network.to(self.device)
        self.network.channels_last = wants_channels_last(config.learner.memory_format)
        if self.network.channels_last:
            use_channels_last(self.network)
        wanted = number_format(config.learner.precision, self.device)
        self.network.number_format = torch.float32 if network.reads_vectors else wanted
        self._rebuild = (
            self.network.rebuild
            if network.reads_vectors
            else FrameStacker(self.network.number_format)
        )
        self.tasks = list(tasks)
        self.compile = compiling_pays(config.learner.compile)
        self.parameters: list[nn.Parameter] = trained_parameters(
            self.network, frozen_torso=config.initial.freezes
        )
        self.surgery = GradientSurgery(config.gradients, [task.name for task in tasks], config.seed)
        self.masks = (
            MaskKeeper(self.network, config, len(tasks), device=self.device)
            if config.gradients.method == "harmony"
            else None
        )
        self.version = 0
        self._config = config
        self._optimiser = build_optimiser(self.parameters, config.optimiser)
        self._metrics = UpdateMetrics([task.name for task in tasks], self.device)
        self._learning_rate = config.optimiser.learning_rate
        self._skipped = SkippedUpdates(config.learner.nonfinite_limit)

    def receive(self, batch: Unroll) -> TensorBatch:
        """Bring a batch to the device and rebuild its stacks there."""
        return to_device(batch, self.device, self._rebuild)

    def step(self, output: LossOutput, progress: float) -> bool:
        """Step along the gradients that `output.loss` left, or skip them if anything is not finite.

        Of several learners, along the sum of theirs, which all of them judge alike. Returns whether
        the step was taken.
        """
        gradients, loss, summed = self._whole(output)
        norm = global_norm(gradients)
        if not bool(torch.isfinite(norm) & torch.isfinite(loss)):
            logger.warning("step skipped: loss %g, gradient norm %g", float(loss), float(norm))
            return False
        self._learning_rate = learning_rate_at(self._config.optimiser, progress)
        set_learning_rate(self._optimiser, self._learning_rate)
        clip_by_global_norm(gradients, norm, self._config.optimiser.clip_norm)
        if output.head is not None:
            accept(self.network.value, output.head)
        self._optimiser.step()
        self._metrics.add(summed, norm)
        return True

    def _whole(self, output: LossOutput) -> tuple[list[Tensor], Float[Tensor, ""], Report]:
        """Return gradients, loss and report of the whole batch, whoever has its parts."""
        moved = [p for p in self.parameters if p.grad is not None]
        gradients = [p.grad for p in moved if p.grad is not None]
        if self._exchange.learners == 1:
            return gradients, output.loss.detach(), output.report
        loss, *found = self._exchange.total(
            output.loss.detach(), *gradients, *report_parts(output.report, self._exchange)
        )
        gradients, parts = found[: len(moved)], found[len(moved) :]
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.grad = gradient
        return gradients, loss, report_of_parts(parts)

    def accept_head(self, head: HeadUpdate) -> bool:
        """Move PopArt's statistics and head on their own, unless anything is not finite."""
        parts = (*head.statistics, head.weight, head.bias)
        finite = torch.stack([part.isfinite().all() for part in parts]).all()
        if finite:
            accept(self.network.value, head)
        return bool(finite)

    def finish(self, *, finite: bool, progress: float = 0.0) -> None:
        """Count an update as a new version; NumericalFailure if too many in a row skipped steps."""
        self.version += 1
        if self.masks is not None:
            self.masks.finish(self.version, progress, self.network)
        self._skipped.note(finite=finite)

    def weights(self) -> Weights:
        """Return what actors need, stamped with the version."""
        masks = None if self.masks is None else (self.masks.packed,)
        return Weights(self.version, to_vector(self.network), masks=masks)

    def metrics(self) -> dict[str, float]:
        """Return means since the last call, and the counters and settings of the moment."""
        metrics = self._metrics.read()
        metrics["learner/learning_rate"] = self._learning_rate
        metrics["learner/nonfinite_updates"] = float(self._skipped.count)
        metrics.update(self.surgery.metrics())
        if self.masks is not None:
            metrics.update(self.masks.metrics())
        head = self.network.value
        if head.popart:
            pairs = zip(self.tasks, head.mu.tolist(), head.sigma.tolist(), strict=True)
            for task, mu, sigma in pairs:
                metrics[f"task/{task.name}/popart_mu"] = mu
                metrics[f"task/{task.name}/popart_sigma"] = sigma
        return metrics

    def state(self) -> dict[str, Any]:
        """Return everything that the next update depends on."""
        return {
            "version": self.version,
            "network": network_state(self.network),
            "optimiser": {
                "kind": self._config.optimiser.kind,
                "parameters": optimiser_state(self._optimiser),
            },
            "learning_rate": self._learning_rate,
            **self._skipped.state(),
            "metrics": self._metrics.state(),
            "gradients": self.surgery.state(),
            "masks": None if self.masks is None else self.masks.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; BadInput if it is another network's or another optimiser's."""
        kind, own = state["optimiser"]["kind"], self._config.optimiser.kind
        if kind != own:
            raise BadInput(f"the checkpoint's optimiser is {kind}, this run's is {own}")
        restore_network(self.network, state["network"])
        restore_optimiser(self._optimiser, state["optimiser"]["parameters"])
        self.version = int(state["version"])
        self._learning_rate = float(state["learning_rate"])
        self._skipped.restore(state)
        self._metrics.restore(state["metrics"])
        # Runs from before there was a choice of method joined their gradients by the mean.
        if "gradients" in state:
            self.surgery.restore(state["gradients"])
        if self.masks is not None:
            self.masks.restore(state["masks"])
