"""Acting with each task's own SAC or TD3 policy, or with another candidate's in its place.

Axes: L lanes, N rows, S draws, A actions, D numbers of an observation, O outputs of the actor.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from actors.policy import Decision, Memoryless
from repertory.config import RunConfig, SacConfig, Td3Config
from repertory.networks.control_agent import ControlAgent, split_gaussian
from repertory.networks.flat import load_vector
from repertory.networks.gaussian import Drawn, draw
from repertory.networks.kept_memory import keep_freed_memory
from repertory.networks.masks import MaskReader
from repertory.types import Weights


def tanh_with_noise(
    outputs: Float[Tensor, "*rows A"], noise: Float[Tensor, "*draws A"], deviation: float
) -> Drawn:
    """Return tanh(outputs) + deviation noise, cut to the box (Fujimoto et al. 2018).

    The log-density is the Gaussian's at the action that is played.
    """
    centre = torch.tanh(outputs)
    action = (centre + deviation * noise).clamp(-1.0, 1.0)
    standard = (action - centre) / deviation
    log_density = -0.5 * standard.square() - math.log(deviation) - 0.5 * math.log(2.0 * math.pi)
    return Drawn(action, log_density.sum(-1))


class ControlPolicy(Memoryless):
    """Acts for L lanes with one batched forward pass; numpy draws, so that runs repeat to the bit.

    Until the first update actions are uniform over the box if the algorithm's exploration says so.
    Tasks that the agent was not trained on get a one-hot code of zeros and the nearest trained
    index's head. Greedy, it takes tanh(mean), draws nothing and is never uniform.
    """

    def __init__(
        self,
        agent: ControlAgent,
        config: RunConfig,
        generator: np.random.Generator,
        *,
        greedy: bool = False,
    ) -> None:
        """Take over `agent`, whose weights `load` overwrites."""
        algorithm = config.algorithm
        if not isinstance(algorithm, SacConfig | Td3Config):
            raise ValueError(f"a control policy needs sac or td3, got {algorithm.kind}")
        keep_freed_memory()
        self.agent = agent.eval().requires_grad_(False)
        self.generator = generator
        self.version = -1
        self.recurrent_size = 0
        networks = (self.agent.actor, self.agent.critic)
        self._readers = (
            [MaskReader(one, config.masks) for one in networks if one is not None]
            if config.gradients.method == "harmony"
            else []
        )
        self._uniform = algorithm.exploration == "uniform" and not greedy
        self._greedy = greedy
        self._action_noise = algorithm.action_noise if isinstance(algorithm, Td3Config) else None

    @property
    def exploring(self) -> bool:
        """Whether actions are uniform: no update was made yet."""
        return self._uniform and self.version < 1

    def act(
        self, stacked: np.ndarray, task: np.ndarray, recurrent: np.ndarray, started: np.ndarray
    ) -> Decision:
        """Choose for L lanes, each with its own task's policy."""
        del started
        if self.exploring:
            size = self.agent.action_size
            action = self.generator.uniform(-1.0, 1.0, (len(task), size)).astype(np.float32)
            log_density = np.full(len(task), -size * math.log(2.0), np.float32)
            return Decision(action, log_density, recurrent)
        with torch.inference_mode():
            # Not `act_as`: an index past the last is a task never trained on, not an expert.
            outputs = self.agent.policies.forward(
                torch.from_numpy(stacked), torch.from_numpy(task)
            )[0]
        action, log_density = self._play(outputs)
        return Decision(action, log_density, recurrent)

    def act_as(
        self, observation: Float32[np.ndarray, "L D"], behaviour: Int32[np.ndarray, " L"]
    ) -> tuple[Float32[np.ndarray, "L A"], Float32[np.ndarray, " L"]]:
        """Return each lane's action by the candidate `behaviour`, and its log-density under it.

        Observations do not contain the task: to act as another, its index is all that changes.
        """
        with torch.inference_mode():
            seen, candidate = torch.from_numpy(observation), torch.from_numpy(behaviour)
            outputs = self.agent.outputs_of(seen, candidate)
        return self._play(outputs)

    def _play(self, outputs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return one action per row of the actor's outputs, and its log-density."""
        with torch.inference_mode():
            if self._greedy:
                noise = torch.zeros(len(outputs), self.agent.action_size)
                sampled = self._with_noise(outputs, noise)
            else:
                drawn = self.sample(outputs, draws=1)
                sampled = Drawn(drawn.action[0], drawn.log_probability[0])
            return sampled.action.numpy(), sampled.log_probability.numpy()

    def sample(self, outputs: Float[Tensor, "*rows O"], *, draws: int) -> Drawn:
        """Draw actions [draws, *rows, A] of the policies whose actor gave `outputs`."""
        return self._with_noise(outputs, self.noise(draws, *outputs.shape[:-1]))

    def noise(self, *shape: int) -> Float[Tensor, "*shape A"]:
        """Return standard normal noise for so many actions."""
        drawn = self.generator.standard_normal((*shape, self.agent.action_size), dtype=np.float32)
        return torch.from_numpy(drawn)

    def load(self, weights: Weights) -> None:
        """Copy the flat vector into the agent; under masks, make ready each task's sub-network."""
        load_vector(self.agent, weights.vector)
        if self._readers:
            if weights.masks is None or len(weights.masks) != len(self._readers):
                found = 0 if weights.masks is None else len(weights.masks)
                raise ValueError(
                    f"weights came with masks of {found} networks, acting needs "
                    f"{len(self._readers)}"
                )
            self.agent.take_off()
            pairs = zip(self._readers, weights.masks, strict=True)
            self.agent.wear(*(read(masks) for read, masks in pairs))
        self.version = weights.version

    def _with_noise(self, outputs: Tensor, noise: Tensor) -> Drawn:
        if self._action_noise is None:
            return draw(*split_gaussian(outputs), noise)
        return tanh_with_noise(outputs, noise, self._action_noise)
