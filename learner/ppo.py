"""The clipped single-step learner (Schulman et al. 2017) on the same unrolls as V-trace.

Axes: T steps, T1 = T + 1 observations, B columns of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learner.actor_critic_update import ActorCriticUpdate, LossOutput
from learner.batches import TensorBatch
from learner.compilation import GradientFunction
from learner.losses.gae import generalised_advantages
from learner.losses.policy_gradient import ActorCriticRows, categorical, reduced, value_rows
from learner.losses.ppo import clipped_policy_rows, normalised_advantages
from learner.losses.vtrace import LOG_RATIO_CEILING, discounts
from learner.popart import HeadUpdate, normalised_returns
from learner.update_metrics import report
from repertory.config import PopArtConfig, PpoConfig, RunConfig
from repertory.metrics.gradient_maps import CosineSums
from repertory.networks.actor_critic import ActorCritic
from repertory.seeding import stream
from repertory.types import TaskSpec, Unroll, Weights


class Goals(NamedTuple):
    """What every pass over a batch works towards, in the units of the losses."""

    advantage: Float[Tensor, "T B"]
    target: Float[Tensor, "T B"]
    head: HeadUpdate | None


def ppo_goals(
    network: ActorCritic, batch: TensorBatch, algorithm: PpoConfig, popart: PopArtConfig
) -> Goals:
    """Estimate advantages and targets once, with the values before the first pass."""
    with torch.no_grad():
        features = network.features(batch.stacked, batch.age, batch.task, batch.recurrent)
        value = network.value.values(features, batch.task.expand(features.shape[:2]))
        estimate = generalised_advantages(
            reward=batch.reward,
            discount=discounts(batch.terminated, algorithm.discount),
            valid=batch.valid,
            value=value,
            gae_lambda=algorithm.gae_lambda,
        )
        normalised = normalised_returns(
            network.value,
            popart,
            features=features[:-1],
            value=value[:-1],
            target=estimate.target,
            advantage=estimate.advantage,
            valid=batch.valid,
            task=batch.task,
        )
    return Goals(normalised.advantage, normalised.target, normalised.head)


def ppo_loss(
    network: ActorCritic,
    batch: TensorBatch,
    advantage: Float[Tensor, "T B"],
    target: Float[Tensor, "T B"],
    algorithm: PpoConfig,
) -> LossOutput:
    """Return the loss of a minibatch; the ratio is against the policy that acted."""
    features = network.features(batch.stacked, batch.age, batch.task, batch.recurrent)[:-1]
    policy = categorical(network.policy(features), batch.action)
    task = batch.task.expand(features.shape[:2])
    value = network.value.outputs(features, task)
    log_ratio = policy.log_probability - batch.behaviour_log_probability
    ratio = torch.where(batch.valid, log_ratio, 0.0).clamp(max=LOG_RATIO_CEILING).exp()
    if algorithm.normalise_advantage:
        advantage = normalised_advantages(advantage, batch.valid)
    rows = ActorCriticRows(
        policy=clipped_policy_rows(
            ratio=ratio, advantage=advantage, valid=batch.valid, clip=algorithm.clip
        ),
        value=value_rows(value=value, target=target, valid=batch.valid),
        entropy=torch.where(batch.valid, -policy.entropy, 0.0),
    )
    loss = reduced(
        rows,
        batch.valid,
        value_cost=algorithm.value_cost,
        entropy_cost=algorithm.entropy_cost,
        reduction=algorithm.loss_reduction,
    )
    summary = report(
        rows=rows,
        ratio=ratio.detach(),
        rho=ratio.detach().clamp(1.0 - algorithm.clip, 1.0 + algorithm.clip),
        value=network.value.values(features, task),
        normalised_value=value,
        normalised_target=target,
        valid=batch.valid,
        task=batch.task,
        tasks=network.tasks,
    )
    return LossOutput(loss, summary, None)


class PpoLearner:
    """Passes several times over each batch, in minibatches of whole unrolls.

    With PopArt the statistics move once per batch, before the first pass. `rho_mean` reports the
    ratio clipped on both sides.
    """

    def __init__(
        self,
        network: ActorCritic,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        device: torch.device | None = None,
    ) -> None:
        algorithm = config.algorithm
        if not isinstance(algorithm, PpoConfig):
            raise ValueError(f"a PPO learner needs algorithm.kind ppo, got {algorithm.kind}")
        self._algorithm = algorithm
        self._popart = config.network.popart
        self._network = network
        self._update = ActorCriticUpdate(network, config, tasks, device)
        self._shuffling = stream(config.seed, "learner", "minibatches")

        def loss(
            batch: TensorBatch, advantage: Float[Tensor, "T B"], target: Float[Tensor, "T B"]
        ) -> LossOutput:
            return ppo_loss(network, batch, advantage, target, algorithm)

        self._gradients = GradientFunction(
            loss, self._update.parameters, compiled=self._update.compile
        )

    @property
    def version(self) -> int:
        """Batches so far."""
        return self._update.version

    def update(self, batch: Unroll, progress: float) -> None:
        """Learn from one batch of unrolls; a minibatch that is not finite is skipped alone."""
        whole = self._update.receive(batch)
        goals = ppo_goals(self._network, whole, self._algorithm, self._popart)
        finite = goals.head is None or self._update.accept_head(goals.head)
        columns = batch.lanes
        for _ in range(self._algorithm.epochs):
            order = self._shuffling.permutation(columns).astype(np.int64)
            for part in np.array_split(order, self._algorithm.minibatches):
                index = torch.from_numpy(part).to(self._update.device)
                output = self._gradients(
                    whole.columns(index), goals.advantage[:, index], goals.target[:, index]
                )
                finite = self._update.step(output, progress) and finite
        self._update.finish(finite=finite)

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
        """Return network, optimiser, statistics, counters and the shuffling's random state."""
        return {**self._update.state(), "shuffling": self._shuffling.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state from `state()`."""
        self._update.restore(state)
        self._shuffling.bit_generator.state = state["shuffling"]
