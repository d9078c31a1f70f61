"""Policies at rollout time: stacked observations of L lanes in, actions and their
log-probabilities out.

Axes: L lanes, A actions, R recurrent state.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from repertory.config import MaskConfig
from repertory.networks.acting import select_actions
from repertory.networks.actor_critic import ActorCritic
from repertory.networks.flat import load_vector
from repertory.networks.masked import MaskedActorCritic
from repertory.networks.masks import MaskReader
from repertory.ports import State
from repertory.types import ActionSpec, GuidanceCounts, StepResult, Weights


class Decision(NamedTuple):
    """What a policy chose for each lane."""

    action: np.ndarray
    """int64 [L] for discrete actions, float32 [L, A] in [-1, 1] for boxes."""
    log_probability: np.ndarray
    """float32 [L], of `action` under the distribution that was sampled from."""
    recurrent: np.ndarray
    """float32 [L, R], the state after this step."""
    guide: np.ndarray | None = None
    """int32 [L]: whose policy acts; None where every task acts for itself."""
    decided: np.ndarray | None = None
    """bool [L]: whether `guide` was chosen at this step; None where nothing is ever chosen."""


@runtime_checkable
class Policy(Protocol):
    """Anything that can act."""

    version: int
    recurrent_size: int

    def act(
        self, stacked: np.ndarray, task: np.ndarray, recurrent: np.ndarray, started: np.ndarray
    ) -> Decision:
        """Choose for L lanes; `started` marks lanes whose episode begins with this observation."""

    def load(self, weights: Weights) -> None:
        """Take up newer weights."""

    def observe(self, result: StepResult) -> None:
        """See what the last decisions led to."""

    def guidance(self) -> GuidanceCounts | None:
        """Return what was chosen since the last call; None where nothing ever is."""

    def state(self) -> State:
        """Return what decides the next step beside weights and random stream."""

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""


class Memoryless:
    """The part of a policy that keeps nothing from one step to the next."""

    def observe(self, result: StepResult) -> None:
        """Look away."""

    def guidance(self) -> GuidanceCounts | None:
        """Return nothing: every task acts for itself."""
        return None

    def state(self) -> State:
        """Return nothing: there is nothing to go on with."""
        return {}

    def restore(self, state: State) -> None:
        """Do nothing."""


class NetworkPolicy(Memoryless):
    """Acts with a network, sampling (or taking the mode) with numpy draws that repeat to the
    bit.
    """

    def __init__(
        self,
        network: ActorCritic,
        generator: np.random.Generator,
        *,
        greedy: bool = False,
        masks: MaskConfig | None = None,
    ) -> None:
        """Take over a network; with `masks` each lane acts with its task's sub-network."""
        self._network = network
        self._read_masks = None if masks is None else MaskReader(network, masks)
        self._acting: ActorCritic | MaskedActorCritic = network
        self.generator = generator
        self._greedy = greedy
        self.version = -1
        self.recurrent_size = network.recurrent_size

    def act(
        self, stacked: np.ndarray, task: np.ndarray, recurrent: np.ndarray, started: np.ndarray
    ) -> Decision:
        """Choose for L lanes in one batched forward pass."""
        with torch.inference_mode():
            logits, after = self._acting.act(
                torch.from_numpy(stacked),
                torch.from_numpy(task),
                torch.from_numpy(recurrent),
                torch.from_numpy(started),
            )
            action, log_probability = select_actions(
                logits.numpy(), self.generator, greedy=self._greedy
            )
            # A copy: a network without memory hands back the tensor it was given, and views of
            # views of it, one more per step, would keep each other alive for ever.
            return Decision(action, log_probability, after.numpy().copy())

    def load(self, weights: Weights) -> None:
        """Copy the flat vector into the network, in the network's own precision."""
        load_vector(self._network, weights.vector)
        if self._read_masks is not None:
            if weights.masks is None:
                raise ValueError("weights came without masks, but tasks act with theirs")
            # The last version's masked weights go before there are others.
            self._acting = self._network
            self._acting = MaskedActorCritic(self._network, self._read_masks(weights.masks[0]))
        self.version = weights.version


class RandomPolicy(Memoryless):
    """Uniform over the actions: the floor that every score is read against."""

    def __init__(self, action: ActionSpec, generator: np.random.Generator) -> None:
        self._action = action
        self.generator = generator
        self.version = 0
        self.recurrent_size = 0

    def act(
        self, stacked: np.ndarray, task: np.ndarray, recurrent: np.ndarray, started: np.ndarray
    ) -> Decision:
        """Draw uniformly, whatever is seen."""
        del stacked, started
        size = self._action.size
        if self._action.kind == "box":
            point = self.generator.uniform(-1.0, 1.0, (len(task), size)).astype(np.float32)
            log_density = np.full(len(task), -size * np.log(2.0), np.float32)
            return Decision(point, log_density, recurrent)
        action = self.generator.integers(0, size, size=len(task))
        log_probability = np.full(len(task), -np.log(size), np.float32)
        return Decision(action, log_probability, recurrent)

    def load(self, weights: Weights) -> None:
        """Do nothing: there is nothing to load."""
