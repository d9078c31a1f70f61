"""The V-trace actor-critic learner (Espeholt et al. 2018), with PopArt as an option.

Axes: T steps, T1 = T + 1 observations, B columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from learner.actor_critic_update import ActorCriticUpdate, LossOutput
from learner.batches import TensorBatch, arrays_of
from learner.compilation import GradientFunction
from learner.gradients.unrolls import UnrollGradients, UnrollOutputs
from learner.losses.policy_gradient import actor_critic_rows, categorical, reduced
from learner.losses.vtrace import discounts, vtrace
from learner.masks.scoring import UnrollTaskGradients
from learner.parallel.exchange import ALONE, Exchange
from learner.popart import normalised_returns
from learner.update_metrics import report
from repertory.config import PopArtConfig, RunConfig, VTraceConfig
from repertory.metrics.gradient_maps import CosineSums
from repertory.networks.actor_critic import ActorCritic
from repertory.networks.masked import MaskedActorCritic
from repertory.networks.masks import TaskMasks
from repertory.types import TaskSpec, Unroll, Weights


def outputs_of(
    network: ActorCritic, batch: TensorBatch, masks: TaskMasks | None = None
) -> UnrollOutputs:
    """Return what the loss reads of the network, or of its tasks' sub-networks."""
    trunk = network if masks is None else MaskedActorCritic(network, masks)
    features = trunk.features(batch.stacked, batch.age, batch.task, batch.recurrent)
    logits = network.policy(features[:-1])
    value = network.value.values(features, batch.task.expand(features.shape[:2]))
    return UnrollOutputs(features, logits, value)


def vtrace_loss(
    network: ActorCritic,
    batch: TensorBatch,
    outputs: UnrollOutputs,
    algorithm: VTraceConfig,
    popart: PopArtConfig,
    exchange: Exchange = ALONE,
) -> LossOutput:
    """Return the loss of a batch, all of it in float32, from `outputs_of` network and batch.

    Of several learners each has a part of the batch, and the losses of the parts add up to that of
    the whole.
    """
    features, logits, value = outputs
    policy = categorical(logits, batch.action)
    returns = vtrace(
        log_probability=policy.log_probability,
        behaviour_log_probability=batch.behaviour_log_probability,
        reward=batch.reward,
        discount=discounts(batch.terminated, algorithm.discount),
        valid=batch.valid,
        value=value,
        rho_clip=algorithm.rho_clip,
        c_clip=algorithm.c_clip,
        policy_gradient_rho_clip=algorithm.policy_gradient_rho_clip,
        trace_lambda=algorithm.trace_lambda,
    )
    normalised = normalised_returns(
        network.value,
        popart,
        features=features[:-1],
        value=value[:-1],
        target=returns.target,
        advantage=returns.advantage,
        valid=batch.valid,
        task=batch.task,
        exchange=exchange,
    )
    rows = actor_critic_rows(
        log_probability=policy.log_probability,
        entropy=policy.entropy,
        advantage=normalised.advantage,
        value=normalised.value,
        target=normalised.target,
        valid=batch.valid,
    )
    whole_steps = None
    if algorithm.loss_reduction == "mean":
        (whole_steps,) = exchange.total(batch.valid.sum())
    loss = reduced(
        rows,
        batch.valid,
        value_cost=algorithm.value_cost,
        entropy_cost=algorithm.entropy_cost,
        reduction=algorithm.loss_reduction,
        steps=whole_steps,
    )
    summary = report(
        rows=rows,
        ratio=returns.ratio,
        rho=returns.rho,
        value=value[:-1],
        normalised_value=normalised.value,
        normalised_target=normalised.target,
        valid=batch.valid,
        task=batch.task,
        tasks=network.tasks,
    )
    return LossOutput(loss, summary, normalised.head, rows.value.detach())


class VTraceLearner:
    """Learns from each batch once; every update is a new version."""

    def __init__(
        self,
        network: ActorCritic,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        device: torch.device | None = None,
        exchange: Exchange = ALONE,
    ) -> None:
        algorithm, popart = config.algorithm, config.network.popart
        if not isinstance(algorithm, VTraceConfig):
            raise ValueError(f"a V-trace learner needs algorithm.kind vtrace, got {algorithm.kind}")
        self._update = ActorCriticUpdate(network, config, tasks, device, exchange)
        masks = self._update.masks

        def evaluate(batch: TensorBatch) -> UnrollOutputs:
            return outputs_of(network, batch, None if masks is None else masks.ready)

        def whole(batch: TensorBatch) -> UnrollOutputs:
            return outputs_of(network, batch)

        def loss(batch: TensorBatch, outputs: UnrollOutputs) -> LossOutput:
            return vtrace_loss(network, batch, outputs, algorithm, popart)

        def joint_loss(batch: TensorBatch) -> LossOutput:
            return vtrace_loss(network, batch, evaluate(batch), algorithm, popart, exchange)

        if masks is not None:
            layout = masks.layout
            masks.judge_by(
                lambda rows: UnrollTaskGradients(
                    network,
                    layout,
                    rows,
                    receive=self._update.receive,
                    masked=lambda part: loss(part, evaluate(part)).loss,
                    whole=lambda part: loss(part, whole(part)).loss,
                )
            )
        parameters = self._update.parameters
        self._gradients = GradientFunction(joint_loss, parameters, compiled=self._update.compile)
        self._by_task = UnrollGradients(
            network, parameters, self._update.surgery, evaluate=evaluate, loss=loss
        )

    @property
    def version(self) -> int:
        """Updates so far, the skipped ones included."""
        return self._update.version

    def update(self, batch: Unroll, progress: float) -> None:
        """Learn from one batch of unrolls."""
        received = self._update.receive(batch)
        self._score(batch, progress)
        output = self._output(received, batch.task)
        self._update.finish(finite=self._update.step(output, progress), progress=progress)

    def _score(self, batch: Unroll, progress: float) -> None:
        """Let the masks see the tasks' gradients, in the updates they want to."""
        masks = self._update.masks
        if masks is None:
            return
        measured = masks.see(arrays_of(batch), self._update.version + 1, progress)
        if measured is not None:
            self._update.surgery.measure("", measured.products, measured.overlap)

    def _output(self, batch: TensorBatch, task: np.ndarray) -> LossOutput:
        """Return the loss of a batch and leave its gradients in the parameters."""
        surgery, version = self._update.surgery, self._update.version
        apart = surgery.keeps_apart("")
        if apart or surgery.measures(version):
            output = self._by_task(batch, task, version)
            if apart:
                return output
        return self._gradients(batch)

    def weights(self) -> Weights:
        """Return what actors need, stamped with the version."""
        return self._update.weights()

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call."""
        return self._update.metrics()

    def cosines(self) -> list[CosineSums]:
        """Return the cosines between the tasks' gradients measured since the last call."""
        return self._update.surgery.sums.read()

    def state(self) -> dict[str, Any]:
        """Return network, optimiser, statistics and counters."""
        return self._update.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state from `state()`."""
        self._update.restore(state)
