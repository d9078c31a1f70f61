"""One update of the guide beside SAC in NumPy float64: loops for networks, finite differences for
gradients, Adam's first step by its definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from repertory.networks.task_mlp import TaskMlp

Network = dict[str, Any]


def arrays_of(network: TaskMlp) -> Network:
    """Return a network's weights as writable float64 arrays."""

    def array(tensor: Any) -> np.ndarray:
        return np.array(tensor.detach().numpy(), dtype=np.float64)

    return {
        "weights": [array(one) for one in network.weights],
        "biases": [array(one) for one in network.biases],
        "code": None if network.code is None else array(network.code),
        "head_weight": array(network.head_weight),
        "head_bias": array(network.head_bias),
    }


def parameters(network: Network) -> list[np.ndarray]:
    """Return every array of a network."""
    code = [] if network["code"] is None else [network["code"]]
    heads = [network["head_weight"], network["head_bias"]]
    return [*network["weights"], *network["biases"], *code, *heads]


def outputs(network: Network, observation: np.ndarray, task: int) -> np.ndarray:
    """Return one row's outputs, [C, O]."""
    rows = []
    for copy in range(network["head_weight"].shape[0]):
        hidden = observation
        pairs = zip(network["weights"], network["biases"], strict=True)
        for layer, (weight, bias) in enumerate(pairs):
            hidden = hidden @ weight[copy] + bias[copy, 0]
            if layer == 0 and network["code"] is not None:
                hidden = hidden + network["code"][copy, task]
            hidden = np.maximum(hidden, 0.0)
        head = task if network["head_weight"].shape[1] > 1 else 0
        rows.append(
            hidden @ network["head_weight"][copy, head] + network["head_bias"][copy, head, 0]
        )
    return np.stack(rows)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def log_density(mean: np.ndarray, log_deviation: np.ndarray, pre_tanh: np.ndarray) -> float:
    """Return the log-density of tanh(pre_tanh)."""
    normal = -0.5 * ((pre_tanh - mean) / np.exp(log_deviation)) ** 2 - log_deviation
    normal = normal - 0.5 * np.log(2.0 * np.pi)
    return float(np.sum(normal - np.log(1.0 - np.tanh(pre_tanh) ** 2)))


def policy_of(actor: Network, observation: np.ndarray, task: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and log deviation."""
    mean, log_deviation = np.split(outputs(actor, observation, task)[0], 2)
    return mean, np.clip(log_deviation, -20.0, 2.0)


def gradient_of(loss: Callable[[], float], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Return central differences with respect to every number of these arrays."""
    step, gradients = 1e-5, []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = loss()
            array[index] = kept - step
            gradient[index] = (above - loss()) / (2.0 * step)
            array[index] = kept
        gradients.append(gradient)
    return gradients


def first_adam_step(
    arrays: list[np.ndarray],
    gradients: list[np.ndarray],
    *,
    rate: float,
    epsilon: float,
    clip: float,
) -> None:
    """Clip the gradients as one vector and take Adam's first step, in place."""
    norm = np.sqrt(sum(float(np.sum(g**2)) for g in gradients))
    for array, gradient in zip(arrays, gradients, strict=True):
        clipped = gradient * min(1.0, clip / norm)
        array -= rate * clipped / (np.abs(clipped) + epsilon)


def first_update(
    *,
    actor: Network,
    policy: Network,
    critic: Network,
    comparable: Network,
    log_temperature: np.ndarray,
    control_temperature: np.ndarray,
    windows: dict[str, np.ndarray],
    noise: np.ndarray,
    discount: float,
    reward_scale: float,
    target_step: float,
    target_entropy: float,
    adam: dict[str, float],
) -> dict[str, Any]:
    """Update everything in place; return losses, entropies, choices and the two targets."""
    task, length = windows["task"], windows["length"]
    count = len(task)
    before = {
        name: [p.copy() for p in parameters(net)]
        for name, net in (("critic", critic), ("comparable", comparable))
    }
    fresh = {}
    for row, (step, w) in enumerate(
        (k, w) for k in range(windows["reward"].shape[0]) for w in range(count) if k < length[w]
    ):
        mean, log_deviation = policy_of(actor, windows["observation"][step, w], task[w])
        fresh[step, w] = log_density(mean, log_deviation, mean + np.exp(log_deviation) * noise[row])
    chosen, targets, comparable_targets = [], [], []
    for w in range(count):
        scores = []
        for candidate in range(len(log_temperature)):
            total = 0.0
            for k in range(length[w]):
                gaussian = policy_of(actor, windows["observation"][k, w], candidate)
                total += log_density(*gaussian, np.arctanh(windows["action"][k, w]))
            scores.append(total)
        chosen.append(int(np.argmax(scores)))
        last = windows["observation"][length[w], w]
        probability = softmax(outputs(policy, last, task[w])[0])
        temperature = np.exp(log_temperature[task[w]])
        soft = outputs(critic, last, task[w]).min(0) - temperature * np.log(probability)
        target, compared = 0.0, 0.0
        for k in range(length[w]):
            reward = reward_scale * windows["reward"][k, w]
            target += discount**k * reward
            compared += discount**k * (reward - control_temperature[task[w]] * fresh[k, w])
        if not windows["terminated"][w]:
            decay = discount ** length[w]
            target += decay * float(probability @ soft)
            compared += decay * float(probability @ outputs(comparable, last, task[w]).min(0))
        targets.append(target)
        comparable_targets.append(compared)

    def critic_loss(network: Network, towards: list[float]) -> float:
        total = 0.0
        for w in range(count):
            values = outputs(network, windows["observation"][0, w], task[w])[:, chosen[w]]
            total += float(np.sum((values - towards[w]) ** 2))
        return total / count

    losses = {
        "critic_loss": critic_loss(critic, targets),
        "comparable_loss": critic_loss(comparable, comparable_targets),
    }
    for network, towards in ((critic, targets), (comparable, comparable_targets)):
        arrays = parameters(network)
        gradients = gradient_of(lambda n=network, t=towards: critic_loss(n, t), arrays)
        first_adam_step(arrays, gradients, **adam)

    quality = [outputs(critic, windows["observation"][0, w], task[w]).min(0) for w in range(count)]
    entropies: list[float] = []

    def policy_loss() -> float:
        total = 0.0
        entropies.clear()
        for w in range(count):
            probability = softmax(outputs(policy, windows["observation"][0, w], task[w])[0])
            temperature = np.exp(log_temperature[task[w]])
            total += float(probability @ (temperature * np.log(probability) - quality[w]))
            entropies.append(-float(probability @ np.log(probability)))
        return total / count

    losses["policy_loss"] = policy_loss()
    at_hand = list(entropies)
    arrays = parameters(policy)
    first_adam_step(arrays, gradient_of(policy_loss, arrays), **adam)

    def temperature_loss() -> float:
        excess = [
            np.exp(log_temperature[task[w]]) * (at_hand[w] - target_entropy) for w in range(count)
        ]
        return float(np.sum(excess)) / count

    first_adam_step([log_temperature], gradient_of(temperature_loss, [log_temperature]), **adam)
    np.minimum(log_temperature, 0.0, out=log_temperature)
    moved = {
        name: [
            (1.0 - target_step) * old + target_step * new
            for old, new in zip(before[name], parameters(net), strict=True)
        ]
        for name, net in (("critic", critic), ("comparable", comparable))
    }
    return {"losses": losses, "chosen": chosen, "entropies": at_hand, "targets": moved}
