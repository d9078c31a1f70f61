"""A plain eager PyTorch loop of multi-task SAC, the yardstick of benchmarks/sac.py.

Written as single-file implementations are: one nn.Sequential per network, the task's one-hot code
concatenated to the input, torch.optim.Adam and backward() for each loss. Same mathematics as
learner/sac.py, to which a test holds it.

Axes: N rows ordered by task, M tasks, D numbers of an observation, A actions.
"""

from __future__ import annotations

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainNetwork(nn.Module):
    """A ReLU network; with heads, the last layer has outputs for every task, and one is taken."""

    def __init__(
        self, inputs: int, outputs: int, *, tasks: int, hidden: int, layers: int, heads: bool
    ) -> None:
        super().__init__()
        self.tasks, self.outputs, self.heads = tasks, outputs, heads
        widths = [inputs if heads else inputs + tasks, *[hidden] * layers]
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            parts += [nn.Linear(before, after), nn.ReLU()]
        self.body = nn.Sequential(*parts, nn.Linear(hidden, outputs * tasks if heads else outputs))

    def forward(self, inputs: Tensor, code: Tensor) -> Tensor:
        """Return [N, outputs] for rows and their tasks' one-hot codes [N, M]."""
        if not self.heads:
            result: Tensor = self.body(torch.cat([inputs, code], -1))
            return result
        every = self.body(inputs).view(-1, self.tasks, self.outputs)
        return (every * code.unsqueeze(-1)).sum(1)


class PlainSac:
    """Actor, twin critics, their targets, log temperatures, and one Adam for each."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        tasks: int,
        hidden: int,
        layers: int,
        heads: bool,
        learning_rate: float,
        epsilon: float = 1e-8,
        discount: float = 0.99,
        target_step: float = 0.005,
    ) -> None:
        def network(inputs: int, outputs: int) -> PlainNetwork:
            return PlainNetwork(
                inputs, outputs, tasks=tasks, hidden=hidden, layers=layers, heads=heads
            )

        self.actor = network(observation_size, 2 * action_size)
        self.critics = nn.ModuleList(network(observation_size + action_size, 1) for _ in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.log_temperature = nn.Parameter(torch.zeros(tasks))
        self.tasks, self.target_entropy = tasks, -float(action_size)
        self.discount, self.target_step = discount, target_step
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), learning_rate, eps=epsilon)
        self.critic_optimiser = torch.optim.Adam(
            self.critics.parameters(), learning_rate, eps=epsilon
        )
        self.temperature_optimiser = torch.optim.Adam(
            [self.log_temperature], learning_rate, eps=epsilon
        )

    def sample(self, observation: Tensor, code: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions [N, A] and their log-probabilities [N]."""
        mean, log_deviation = self.actor(observation, code).chunk(2, -1)
        log_deviation = log_deviation.clamp(-20.0, 2.0)
        normal = torch.distributions.Normal(mean, log_deviation.exp())
        z = mean + log_deviation.exp() * noise
        slope = 2.0 * (math.log(2.0) - z - F.softplus(-2.0 * z))
        return torch.tanh(z), (normal.log_prob(z) - slope).sum(-1)

    def update(
        self,
        *,
        task: Tensor,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        next_observation: Tensor,
        noise: tuple[Tensor, Tensor],
    ) -> None:
        """Take one step of critics, actor and temperatures, and move the targets."""
        code = F.one_hot(task.long(), self.tasks).float()
        temperature = self.log_temperature.exp().detach()[task.long()]
        with torch.no_grad():
            next_action, next_log = self.sample(next_observation, code, noise[0])
            inputs = torch.cat([next_observation, next_action], -1)
            values = [target(inputs, code).squeeze(-1) for target in self.targets]
            next_value = torch.min(*values) - temperature * next_log
            goal = reward + self.discount * (1.0 - terminated.float()) * next_value
        inputs = torch.cat([observation, action], -1)
        loss = sum(F.mse_loss(critic(inputs, code).squeeze(-1), goal) for critic in self.critics)
        self.critic_optimiser.zero_grad()
        loss.backward()
        self.critic_optimiser.step()

        new_action, log_probability = self.sample(observation, code, noise[1])
        inputs = torch.cat([observation, new_action], -1)
        values = [critic(inputs, code).squeeze(-1) for critic in self.critics]
        loss = (temperature * log_probability - torch.min(*values)).mean()
        self.actor_optimiser.zero_grad()
        loss.backward()
        self.actor_optimiser.step()

        surplus = log_probability.detach() + self.target_entropy
        loss = -(self.log_temperature.exp()[task.long()] * surplus).mean()
        self.temperature_optimiser.zero_grad()
        loss.backward()
        self.temperature_optimiser.step()
        with torch.no_grad():
            pairs = zip(self.targets.parameters(), self.critics.parameters(), strict=True)
            for target, online in pairs:
                target.lerp_(online, self.target_step)
