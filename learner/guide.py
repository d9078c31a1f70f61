"""The learner's half of Cross-Task Policy Guidance (He et al. 2024).

Axes: W windows, M tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from learner.dqn_guide import DqnGuide
from learner.guide_batch import GuideBatch
from learner.guide_filter import STATES, filtered
from learner.guide_report import GuideMetrics
from learner.guide_windows import prepare, read_windows
from learner.losses.guide_gates import blocked_by_success, blocked_by_temperature
from learner.replayed import TensorWindows
from learner.skipped_updates import SkippedUpdates
from learner.soft_guide import SoftGuide
from repertory.config import RunConfig, SacConfig, Td3Config
from repertory.metrics.names import task_metric
from repertory.networks.control_agent import ControlAgent
from repertory.networks.masked import MaskedMlp
from repertory.networks.precision import number_format
from repertory.networks.task_mlp import TaskMlp
from repertory.types import TaskSpec

logger = logging.getLogger(__name__)


class GuideUpdate:
    """Learns the guide from windows of replay and decides for which tasks it may act.

    The agent and its networks must be on `device` already. `generator`, on the device, draws the
    fresh actions of the comparable critics' entropy bonus.
    """

    def __init__(
        self,
        agent: ControlAgent,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        algorithm = config.algorithm
        if not isinstance(algorithm, SacConfig | Td3Config):
            raise ValueError(f"a guide needs sac or td3, got {algorithm.kind}")
        self._agent, self._algorithm, self._settings = agent, algorithm, algorithm.guide
        self._tasks, self._device, self._generator = list(tasks), device, generator
        self.learned: SoftGuide | DqnGuide = (
            SoftGuide(agent, config, device)
            if isinstance(algorithm, SacConfig)
            else DqnGuide(agent, config)
        )
        # `auto` reads windows in bfloat16 where that is fast, whatever the losses compute in: it
        # moves log-probabilities by 0.002 nats either way, 0.0001 on average, and names who played
        # as often rightly as float32 does (30.4 % and 30.5 % among ten policies much alike).
        self._reading_format = number_format(config.learner.precision, device)
        self._metrics = GuideMetrics([task.name for task in tasks], device)
        self._guided = np.ones(len(self._tasks), dtype=bool)
        self._control_updates = 0
        self._next_decision = algorithm.guide.block_every
        self._skipped = SkippedUpdates(
            config.learner.nonfinite_limit, "the guide's loss or gradients"
        )

    @property
    def guided(self) -> Bool[np.ndarray, " M"]:
        """Tasks that the guide may act for, as last decided; all before the first decision."""
        return self._guided.copy()

    def update(
        self,
        windows: TensorWindows,
        *,
        critic: TaskMlp | MaskedMlp,
        task_mask: Tensor | None = None,
        progress: float = 0.0,
    ) -> None:
        """Learn from one batch of windows, of any tasks in any numbers.

        `critic`: the control critics, to report what the policy filter keeps out. `task_mask`: 0
        for tasks that the control update left out; they are left out here too. `progress`: share
        of the budget spent, for the learning rate.
        Raises NumericalFailure when too many updates in a row were not finite.
        """
        prepared = prepare(
            windows,
            len(self._tasks),
            self._algorithm.time_limit,
            official=self._algorithm.compat == "official",
            hindsight=self._settings.hindsight,
        )
        reading = read_windows(
            self._agent,
            prepared,
            hindsight=self._settings.hindsight,
            fresh=self.learned.needs_fresh_actions,
            generator=self._generator,
            number_format=self._reading_format,
        )
        counts = torch.tensor(prepared.counts, dtype=torch.float32, device=self._device)
        kept = torch.ones_like(counts, dtype=torch.bool) if task_mask is None else task_mask > 0
        late = self._control_updates >= self._algorithm.maskout_from
        maskout = self._algorithm.maskout if late else 0.0
        batch = GuideBatch(prepared, reading, counts, maskout, kept)
        report = self.learned.learn(batch, progress)
        if report is None:
            logger.warning("guide update skipped: a loss or gradient is not finite")
            self._skipped.note(finite=False)
            return
        self._skipped.note(finite=True)
        relabelled = reading.chosen != prepared.windows.guide
        self._metrics.add(report, task=batch.task, counts=counts, relabelled=relabelled)
        if self._settings.policy_filter != "off":
            stride = max(1, len(batch.task) // STATES)
            self._metrics.add_filtered(
                filtered(
                    self._agent,
                    critic,
                    prepared.first[::stride],
                    batch.task[::stride],
                    samples=self._settings.filter_samples,
                    twins=self._settings.filter_twins,
                    generator=self._generator,
                )
            )

    def refresh(self, updates: int, success_rate: Float[np.ndarray, " M"]) -> None:
        """Note the count of control updates; decide anew who is guided when that is due.

        `success_rate`: share of each task's latest episodes that succeeded, NaN while unknown.
        """
        self._control_updates = updates
        if updates < self._next_decision:
            return
        every = self._settings.block_every
        self._next_decision = (updates // every + 1) * every
        match self._settings.block:
            case "temperature" if self._agent.log_temperature is not None:
                blocked = blocked_by_temperature(self._agent.log_temperature.detach())
                self._guided = ~blocked.cpu().numpy()
            case "success":
                rates = torch.from_numpy(np.asarray(success_rate, dtype=np.float32))
                threshold = self._settings.block_success
                self._guided = ~blocked_by_success(rates, threshold).numpy()
            case _:
                pass

    def metrics(self) -> dict[str, float]:
        """Return means since the last call, and what holds at the moment."""
        soft = isinstance(self.learned, SoftGuide)
        metrics = self._metrics.read(
            soft=soft,
            compared=soft and self._agent.comparable is not None,
            filtering=self._settings.policy_filter != "off",
        )
        metrics |= self.learned.metrics()
        metrics["guide/nonfinite_updates"] = float(self._skipped.count)
        metrics["guide/blocked"] = 1.0 - float(self._guided.mean())
        for task, guided in zip(self._tasks, self._guided, strict=True):
            metrics[task_metric(task.name, "blocked")] = float(not guided)
        return metrics

    def state(self) -> dict[str, Any]:
        """Return everything the next update depends on, but for the agent and its networks."""
        return {
            "kind": self._algorithm.kind,
            "learned": self.learned.state(),
            "guided": self._guided.copy(),
            "control_updates": self._control_updates,
            "next_decision": self._next_decision,
            **self._skipped.state(),
            "generator": self._generator.get_state().numpy().copy(),
            "metrics": self._metrics.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state from `state()`; BadInput if it is of other networks."""
        self.learned.restore(state["learned"])
        self._guided = np.array(state["guided"], dtype=bool)
        self._control_updates = int(state["control_updates"])
        self._next_decision = int(state["next_decision"])
        self._skipped.restore(state)
        self._generator.set_state(torch.tensor(state["generator"]))
        self._metrics.restore(state["metrics"])
