"""What SAC and TD3 share: twin critics, guarded steps per part, soft targets, metrics, state.

Axes: C critics, N rows ordered by task, N/M of each, M tasks, D numbers of an observation,
A actions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from learner.actor_critic_update import choose_device
from learner.frozen import trained_parameters
from learner.gradients.aggregate import GradientSurgery
from learner.gradients.jacobian import TaskOutputs
from learner.gradients.parts import PartGradients
from learner.guarded_step import GuardedStep
from learner.guide import GuideUpdate
from learner.losses.task_weights import joined, kept_tasks, per_task_means
from learner.losses.twin_critic import one_step_target, squared_errors
from learner.masks.parts import PartMasks
from learner.masks.scoring import Losses
from learner.network_state import network_state, restore_network
from learner.off_policy_metrics import OffPolicyMetrics
from learner.optimisers import global_norm, learning_rate_at
from learner.parallel.exchange import ALONE, Exchange, own_rows
from learner.replayed import TensorReplayBatch, to_device_steps, to_device_windows
from learner.skipped_updates import SkippedUpdates
from learner.target_networks import target_of
from repertory import seeding
from repertory.config import RunConfig, SacConfig, Td3Config
from repertory.errors import BadInput
from repertory.networks.control_agent import ControlAgent, build_critic
from repertory.networks.flat import to_vector
from repertory.networks.kept_memory import keep_freed_memory
from repertory.networks.task_mlp import TaskMlp
from repertory.types import ReplayBatch, TaskSpec, Weights

logger = logging.getLogger(__name__)


class OffPolicyUpdate:
    """An agent, its twin critics, their targets, one optimiser per part, and the counters.

    A part whose loss or gradient norm is not finite keeps every weight and moment as it was, bit
    for bit, and ends the update; deciding that reads one flag from the device per part.
    """

    def __init__(
        self,
        agent: ControlAgent,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        device: torch.device | None,
        exchange: Exchange = ALONE,
    ) -> None:
        self._exchange = exchange
        algorithm = config.algorithm
        if not isinstance(algorithm, SacConfig | Td3Config):
            raise ValueError(f"an off-policy update needs sac or td3, got {algorithm.kind}")
        self.device = device or choose_device(config.learner.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.agent, self.tasks, self.algorithm = agent, list(tasks), algorithm
        critic = agent.critic
        if critic is None:
            critic = build_critic(tasks, config.network)
            critic.initialise(torch.Generator().manual_seed(seeding.integer(config.seed, "critic")))
        self.critic: TaskMlp = critic.to(self.device)
        self.agent.to(self.device)
        # bf16 only where it is asked for: see LearnerConfig.precision.
        hidden = torch.bfloat16 if config.learner.precision == "bf16" else torch.float32
        self.agent.actor.number_format = self.critic.number_format = hidden
        self.target_critic = target_of(self.critic)
        self.noise = torch.Generator(self.device)
        self.noise.manual_seed(seeding.integer(config.seed, "learner", "noise"))
        self.guide = (
            GuideUpdate(agent, config, tasks, self.device, self.noise)
            if algorithm.guide.kind == "ctpg"
            else None
        )
        self.report = OffPolicyMetrics([task.name for task in tasks], self.device)
        self.surgery = GradientSurgery(config.gradients, [task.name for task in tasks], config.seed)
        self.version = 0
        self._config = config
        # As CTPG's released code does, which rescales and masks out only plain losses.
        self._raw_surgery = algorithm.compat == "official" and config.gradients.method == "pcgrad"
        self._by_task = PartGradients(self.surgery)
        self._parts: dict[str, GuardedStep] = {}
        self.masks = PartMasks(config, len(tasks), self.surgery, self.device)
        self._networks: dict[str, nn.Module] = {
            "agent": self.agent,
            "target_critic": self.target_critic,
        }
        if agent.critic is None:
            self._networks["critic"] = self.critic
        self._learning_rate = config.optimiser.learning_rate
        self._skipped = SkippedUpdates(config.learner.nonfinite_limit)
        self.add_task_part("critic", self.critic, _critic_losses)

    def add_part(self, name: str, parameters: list[nn.Parameter]) -> None:
        """Give these parameters an optimiser of their own."""
        self._parts[name] = GuardedStep(parameters, self._config.optimiser)

    def add_task_part(self, name: str, network: TaskMlp, losses: Losses) -> None:
        """Give a network an optimiser of its own, whose gradients `outputs` can tell by task.

        `losses` are what masks, if the run has any, judge weights by.
        """
        frozen = self._config.initial.freezes
        self.add_part(name, trained_parameters(network, frozen_torso=frozen))
        self._by_task.add(name, network)
        self.masks.add(name, network, losses)

    def add_network(self, name: str, network: nn.Module) -> None:
        """Make a network part of the state."""
        self._networks[name] = network

    def receive(self, batch: ReplayBatch) -> TensorReplayBatch:
        """Bring a batch to the device; ValueError unless its rows are ordered by task."""
        tasks = len(self.tasks)
        rows = batch.task.shape[0]
        if rows % tasks or not np.array_equal(
            batch.task.reshape(tasks, -1), np.arange(tasks)[:, None].repeat(rows // tasks, 1)
        ):
            raise ValueError(f"a batch of {rows} rows is not {tasks} equal shares ordered by task")
        return to_device_steps(batch, self.device)

    def normal(self, rows: int, size: int) -> Float[Tensor, "{rows} {size}"]:
        """Return standard normal noise for the rows of a batch.

        Of several learners each draws for the rows of all, and takes its own: so the same rows get
        the same noise however many learners share them.
        """
        whole = rows * self._exchange.learners
        drawn = torch.randn(whole, size, generator=self.noise, device=self.device)
        return own_rows(drawn, self._exchange, len(self.tasks))

    def outputs(self, part: str, network: TaskMlp, inputs: Float[Tensor, "N I"]) -> TaskOutputs:
        """Return what the losses of a part's tasks are computed from, to be given to `step`."""
        if part in self.masks:
            return TaskOutputs(self.masks.worn(part, network).grouped(inputs), ())
        return self._by_task.outputs(part, network, inputs, self.version)

    def critic_step(
        self,
        steps: TensorReplayBatch,
        next_value: Float[Tensor, " N"],
        weights: Float[Tensor, " M"],
        progress: float,
    ) -> Bool[Tensor, " M"] | None:
        """Step the critics towards r + gamma V(s'); return which tasks this update keeps.

        None if the step was skipped, since it was not finite.
        """
        target = one_step_target(
            reward=steps.reward,
            next_value=next_value,
            terminated=steps.terminated,
            truncated=steps.truncated,
            discount=self.algorithm.discount,
            reward_scale=self.algorithm.reward_scale,
            time_limit=self.algorithm.time_limit,
        )
        inputs = torch.cat([steps.observation, steps.action], -1)
        outputs = self.outputs("critic", self.critic, inputs)
        value = outputs.outputs.squeeze(-1)
        means = per_task_means(squared_errors(value, target), len(self.tasks))
        started = self.version >= self.algorithm.maskout_from
        kept = kept_tasks(self._over_learners(means), self.algorithm.maskout if started else 0.0)
        rows = {"inputs": inputs, "kept": kept, "target": target}
        self.masks.score("critic", rows, update=self.version + 1, progress=progress)
        reported = {
            "task/critic_loss": means,
            "task/q_mean": per_task_means(value.mean(0), len(self.tasks)),
            "task/loss_weight": weights,
            "task/masked_out": (~kept).float(),
        }
        taken = self.step("critic", means, weights, kept, progress, outputs, reported)
        return kept if taken else None

    def _over_learners(self, means: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
        """Return each task's mean over the rows of all learners, who have as many each."""
        return self._exchange.total(means.detach())[0] / self._exchange.learners

    def step(
        self,
        part: str,
        means: Float[Tensor, " M"],
        weights: Float[Tensor, " M"],
        kept: Bool[Tensor, " M"],
        progress: float,
        outputs: TaskOutputs | None = None,
        reported: Mapping[str, Tensor] | None = None,
    ) -> bool:
        """Step one part along the gradients of its tasks' losses, joined; say whether it did.

        The one place where the tasks' gradients become one, and those of several learners their
        mean; without `outputs`, whose losses the means are, always the joint loss's. What is
        `reported` of the rows is counted if the step was taken.
        """
        stepped = self._parts[part]
        if outputs is not None and self._raw_surgery:
            weights, kept = torch.ones_like(weights), torch.ones_like(kept)
        loss = joined(means, weights, kept)
        if outputs is None:
            gradients = stepped.gradients(loss)
        else:
            gradients = self._by_task.gradients(
                part,
                loss,
                outputs,
                stepped.parameters,
                means=means,
                kept=kept,
                version=self.version,
            )
        reported = {} if reported is None else {k: v.detach() for k, v in reported.items()}
        if self._exchange.learners > 1:
            sums = self._exchange.total(loss.detach(), *gradients, *reported.values())
            loss, *means_of_all = (each / self._exchange.learners for each in sums)
            gradients, rest = means_of_all[: len(gradients)], means_of_all[len(gradients) :]
            reported = dict(zip(reported, rest, strict=True))
        norm, loss = global_norm(gradients), loss.detach()
        if not bool(torch.isfinite(norm) & torch.isfinite(loss)):
            logger.warning("%s skipped: loss %g, gradient norm %g", part, float(loss), float(norm))
            return False
        self._learning_rate = learning_rate_at(self._config.optimiser, progress)
        stepped.step(gradients, norm, progress)
        self.report.add({f"learner/{part}_loss": loss, f"learner/gradient_norm_{part}": norm})
        self.report.add(reported)
        return True

    def finish(
        self,
        batch: ReplayBatch,
        kept: Bool[Tensor, " M"] | None,
        progress: float,
        *,
        finite: bool,
    ) -> None:
        """Let the guide learn and count the update; NumericalFailure if too many were skipped."""
        if finite and self.guide is not None and batch.windows is not None:
            windows = to_device_windows(batch.windows, self.device)
            if self.masks:
                self.agent.wear(self.masks.ready("actor"))
            critic = self.masks.worn("critic", self.critic)
            self.guide.update(windows, critic=critic, task_mask=kept, progress=progress)
        self.version += 1
        self.masks.finish(self.version, progress)
        if self.guide is not None:
            self.guide.refresh(self.version, batch.success_rate)
        self._skipped.note(finite=finite)

    def weights(self) -> Weights:
        """Return what actors need, stamped with the version."""
        guided = None if self.guide is None else self.guide.guided
        masks = self.masks.packed(("actor",) if self.agent.critic is None else ("actor", "critic"))
        return Weights(self.version, to_vector(self.agent), guided=guided, masks=masks)

    def metrics(self) -> dict[str, float]:
        """Return means since the last call, and the counters and settings of the moment."""
        metrics = self.report.read()
        metrics["learner/learning_rate"] = self._learning_rate
        metrics["learner/nonfinite_updates"] = float(self._skipped.count)
        metrics.update(self.surgery.metrics())
        metrics.update(self.masks.metrics())
        return metrics if self.guide is None else {**metrics, **self.guide.metrics()}

    def state(self) -> dict[str, Any]:
        """Return everything that the next update depends on."""
        return {
            "algorithm": self.algorithm.kind,
            "version": self.version,
            "networks": {name: network_state(one) for name, one in self._networks.items()},
            "optimisers": {name: part.state() for name, part in self._parts.items()},
            "optimiser_kind": self._config.optimiser.kind,
            "noise": self.noise.get_state().numpy().copy(),
            "learning_rate": self._learning_rate,
            **self._skipped.state(),
            "metrics": self.report.state(),
            "gradients": self.surgery.state(),
            "masks": self.masks.state(),
            "guide": None if self.guide is None else self.guide.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; BadInput if another algorithm, optimiser or network left it."""
        kinds = (
            ("algorithm", state["algorithm"], self.algorithm.kind),
            ("optimiser", state["optimiser_kind"], self._config.optimiser.kind),
            ("guide", _presence(state["guide"]), _presence(self.guide)),
            ("set of networks", sorted(state["networks"]), sorted(self._networks)),
        )
        for what, theirs, own in kinds:
            if theirs != own:
                raise BadInput(f"the checkpoint's {what} is {theirs}, this run's is {own}")
        for name, network in self._networks.items():
            restore_network(network, state["networks"][name])
        for name, part in self._parts.items():
            part.restore(state["optimisers"][name])
        self.version = int(state["version"])
        self.noise.set_state(torch.tensor(state["noise"]))
        self._learning_rate = float(state["learning_rate"])
        self._skipped.restore(state)
        self.report.restore(state["metrics"])
        # Runs from before there was a choice of method joined their gradients by the mean.
        if "gradients" in state:
            self.surgery.restore(state["gradients"])
        if self.masks:
            self.masks.restore(state["masks"])
        if self.guide is not None:
            self.guide.restore(state["guide"])


def _critic_losses(
    outputs: Float[Tensor, "C N 1"], rows: Mapping[str, Tensor]
) -> Float[Tensor, " M"]:
    return per_task_means(squared_errors(outputs.squeeze(-1), rows["target"]), len(rows["kept"]))


def _presence(part: object) -> str:
    return "none" if part is None else "ctpg"
