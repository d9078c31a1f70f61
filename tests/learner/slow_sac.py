"""A slow, obvious twin of SAC's update: NumPy, float64, one row at a time, gradients by hand.

Axes: M tasks, A actions, D numbers of an observation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from repertory.networks.task_mlp import TaskMlp
from repertory.types import ReplayBatch

Arrays = dict[str, np.ndarray]


def arrays_of(network: TaskMlp) -> Arrays:
    """Return a network's weights in float64, in the order of definition."""
    return {
        name: parameter.detach().numpy().astype(np.float64)
        for name, parameter in network.named_parameters()
    }


def forward(weights: Arrays, copy: int, task: int, row: np.ndarray) -> list[np.ndarray]:
    """Return the inputs of every layer of one copy for one row, and last its outputs."""
    layers = sum(name.startswith("weights.") for name in weights)
    reached = [row]
    for layer in range(layers):
        weight, bias = weights[f"weights.{layer}"][copy], weights[f"biases.{layer}"][copy, 0]
        value = reached[-1] @ weight + bias
        if layer == 0 and "code" in weights:
            one_hot = np.eye(weights["code"].shape[1])[task]
            stacked = np.concatenate([weight, weights["code"][copy]])
            value = np.concatenate([row, one_hot]) @ stacked + bias
        reached.append(np.maximum(value, 0.0))
    head = task if weights["head_weight"].shape[1] > 1 else 0
    output = reached[-1] @ weights["head_weight"][copy, head]
    reached.append(output + weights["head_bias"][copy, head, 0])
    return reached


def backward(
    weights: Arrays, copy: int, task: int, reached: list[np.ndarray], gradient: np.ndarray
) -> tuple[Arrays, np.ndarray]:
    """Return one row's gradients of the weights, and of the row."""
    gradients = {name: np.zeros_like(weight) for name, weight in weights.items()}
    head = task if weights["head_weight"].shape[1] > 1 else 0
    gradients["head_weight"][copy, head] = np.outer(reached[-2], gradient)
    gradients["head_bias"][copy, head, 0] = gradient
    flowing = weights["head_weight"][copy, head] @ gradient
    for layer in reversed(range(len(reached) - 2)):
        flowing = flowing * (reached[layer + 1] > 0.0)
        gradients[f"weights.{layer}"][copy] = np.outer(reached[layer], flowing)
        gradients[f"biases.{layer}"][copy, 0] = flowing
        if layer == 0 and "code" in weights:
            gradients["code"][copy, task] = flowing
        flowing = weights[f"weights.{layer}"][copy] @ flowing
    return gradients, flowing


def add(total: Arrays, more: Arrays, share: float) -> None:
    """Add `share` times `more`."""
    for name in total:
        total[name] += share * more[name]


class SlowAdam:
    """Adam with a clip by the global norm."""

    def __init__(self, rate: float, epsilon: float, clip: float) -> None:
        self.rate, self.epsilon, self.clip = rate, epsilon, clip
        self.first: Arrays = {}
        self.second: Arrays = {}
        self.count = 0

    def step(self, weights: Arrays, gradients: Arrays) -> float:
        """Step the weights in place; return the norm before the clip."""
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        scale = min(1.0, self.clip / norm) if norm > 0.0 else 1.0
        self.count += 1
        for name, gradient in gradients.items():
            clipped = gradient * scale
            first = 0.9 * self.first.get(name, np.zeros_like(clipped)) + 0.1 * clipped
            second = 0.999 * self.second.get(name, np.zeros_like(clipped)) + 0.001 * clipped**2
            self.first[name], self.second[name] = first, second
            above = first / (1.0 - 0.9**self.count)
            below = np.sqrt(second / (1.0 - 0.999**self.count)) + self.epsilon
            weights[name] -= self.rate * above / below
        return norm


class SlowSac:
    """SAC as He et al. 2024 write it (equations 1 to 4 and 21), one row after another."""

    def __init__(self, actor: TaskMlp, critic: TaskMlp, *, tasks: int, **settings: Any) -> None:
        self.actor, self.critic = arrays_of(actor), arrays_of(critic)
        self.target = {name: weight.copy() for name, weight in self.critic.items()}
        self.log_temperature = {"log": np.zeros(tasks)}
        self.tasks, self.settings = tasks, settings
        adam = (settings["rate"], settings["epsilon"], settings["clip"])
        self.adams = [SlowAdam(*adam) for _ in range(3)]

        self.masks: dict[str, list[Arrays]] = {}
        """Of each part and task, by the names of the weights that have any."""

    def seen(self, part: str, task: int) -> Arrays:
        """Return a part's weights as a task sees them; targets wear the masks of the critics."""
        weights: Arrays = getattr(self, part)
        return self.masked(weights, "critic" if part == "target" else part, task)

    def masked(self, arrays: Arrays, part: str, task: int) -> Arrays:
        """Return weights, or gradients, times a task's mask."""
        masks = self.masks[part][task] if part in self.masks else {}
        return {name: a * masks[name] if name in masks else a for name, a in arrays.items()}

    def draw(self, task: int, observation: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
        """Return an action, its log-probability and what a gradient needs."""
        reached = forward(self.seen("actor", task), 0, task, observation)
        mean, log_deviation = np.split(reached[-1], 2)
        deviation = np.exp(log_deviation)
        action = np.tanh(mean + deviation * noise)
        log_probability = sum(
            -0.5 * e * e - s - 0.5 * math.log(2.0 * math.pi) - math.log(1.0 - a * a)
            for e, s, a in zip(noise, log_deviation, action, strict=True)
        )
        return {"reached": reached, "action": action, "log": log_probability, "sd": deviation}

    def update(
        self, batch: ReplayBatch, next_noise: np.ndarray, noise: np.ndarray
    ) -> dict[str, float]:
        """Take one update in place; return losses and gradient norms."""
        settings, tasks = self.settings, self.tasks
        rows = len(batch.reward)
        each = rows // tasks
        temperature = np.exp(self.log_temperature["log"])
        inverse = 1.0 / temperature
        weight = tasks * inverse / inverse.sum() if settings["rescale"] else np.ones(tasks)

        losses, parts = np.zeros(tasks), []
        for row in range(rows):
            task = int(batch.task[row])
            after = batch.next_observation[row].astype(np.float64)
            drawn = self.draw(task, after, next_noise[row])
            inputs = np.concatenate([after, drawn["action"]])
            target_critic = self.seen("target", task)
            value = min(float(forward(target_critic, c, task, inputs)[-1][0]) for c in (0, 1))
            ended = batch.terminated[row] or (settings["terminal"] and batch.truncated[row])
            target = settings["reward_scale"] * float(batch.reward[row])
            if not ended:
                target += settings["discount"] * (value - temperature[task] * drawn["log"])
            inputs = np.concatenate([batch.observation[row], batch.action[row]]).astype(np.float64)
            seen = self.seen("critic", task)
            for critic in (0, 1):
                reached = forward(seen, critic, task, inputs)
                error = reached[-1] - target
                losses[task] += float(error[0] ** 2) / each
                gradients = backward(seen, critic, task, reached, 2.0 * error)[0]
                parts.append((task, self.masked(gradients, "critic", task)))
        kept = np.abs(losses) <= settings["maskout"]
        total = {name: np.zeros_like(array) for name, array in self.critic.items()}
        for task, gradients in parts:
            add(total, gradients, kept[task] * weight[task] / rows)
        report = {"critic_loss": float((kept * weight * losses).mean())}
        report["gradient_norm_critic"] = self.adams[0].step(self.critic, total)

        total = {name: np.zeros_like(array) for name, array in self.actor.items()}
        of_temperature, actor_losses = np.zeros(tasks), np.zeros(tasks)
        for row in range(rows):
            task = int(batch.task[row])
            before = batch.observation[row].astype(np.float64)
            drawn = self.draw(task, before, noise[row])
            action = drawn["action"]
            inputs = np.concatenate([before, action])
            seen = self.seen("critic", task)
            both = [forward(seen, critic, task, inputs) for critic in (0, 1)]
            lower = int(both[1][-1][0] < both[0][-1][0])
            slope = backward(seen, lower, task, both[lower], np.ones(1))[1][len(before) :]
            spread = drawn["sd"] * noise[row]
            through = (1.0 - action**2) * slope
            alpha = temperature[task]
            of_mean = alpha * 2.0 * action - through
            of_log = alpha * (-1.0 + 2.0 * action * spread) - through * spread
            gradient = np.concatenate([of_mean, of_log])
            actor = self.seen("actor", task)
            gradients = backward(actor, 0, task, drawn["reached"], gradient)[0]
            gradients = self.masked(gradients, "actor", task)
            add(total, gradients, kept[task] * weight[task] / rows)
            actor_losses[task] += (alpha * drawn["log"] - float(both[lower][-1][0])) / each
            surplus = drawn["log"] + settings["target_entropy"]
            of_temperature[task] -= kept[task] * alpha * surplus / rows
        report["actor_loss"] = float((kept * weight * actor_losses).mean())
        report["gradient_norm_actor"] = self.adams[1].step(self.actor, total)
        self.adams[2].step(self.log_temperature, {"log": of_temperature})
        np.minimum(self.log_temperature["log"], 0.0, out=self.log_temperature["log"])
        for name, target in self.target.items():
            target += settings["target_step"] * (self.critic[name] - target)
        return report
