"""The gates between a guide and the policies it chooses from, as functions of networks' outputs.

Axes: N rows, J candidates, S sampled actions, C copies of a critic (two for twins), D numbers of an
observation, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from repertory.networks.acting import select_actions
from repertory.networks.control_agent import ControlAgent, split_gaussian
from repertory.networks.gaussian import draw

Twins = Literal["mean", "min"]
FilterMode = Literal["on", "fallback_only", "off"]


def join_copies(values: Float[Tensor, "C *rows"], how: Twins) -> Float[Tensor, "*rows"]:
    """Return one value from those of twin critics; a single critic's is itself."""
    return values.amin(0) if how == "min" else values.mean(0)


def own_value(
    action_value: Float[Tensor, "S N"],
    log_probability: Float[Tensor, "S N"],
    temperature: Float[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """Estimate a task's value under its own policy from S of its actions.

    He et al. 2024, equation 20. Without temperatures (TD3) pass one action and zeros.
    """
    return (action_value - temperature * log_probability).mean(0)


def value_of_own_policy(
    agent: ControlAgent,
    critic: Callable[[Tensor, Tensor], Tensor],
    observation: Float[Tensor, "N D"],
    task: Int[Tensor, " N"],
    *,
    noise: Float[Tensor, "S N A"] | None,
    twins: Twins,
) -> Float[Tensor, " N"]:
    """Estimate each row's value under its task's own policy (equation 20), acting and learning.

    `critic` answers (inputs, task) with [C, rows, 1]; it is asked for the S actions of one row
    after another. `noise` draws the actions of SAC; TD3's own action needs none, and is always held
    by the smaller of its twins (Fujimoto et al. 2018).
    """
    outputs = agent.policies.forward(observation, task)[0]
    if agent.log_temperature is None:
        action = torch.tanh(outputs).unsqueeze(0)
        log_probability = action.new_zeros(action.shape[:2])
        temperature, twins = log_probability[0], "min"
    elif noise is None:
        raise ValueError("a policy with a temperature is valued at drawn actions")
    else:
        action, log_probability = draw(*split_gaussian(outputs), noise)
        temperature = agent.log_temperature.exp()[task.long()]
    samples = action.shape[0]
    repeated = observation.unsqueeze(1).expand(-1, samples, -1)
    inputs = torch.cat([repeated, action.transpose(0, 1)], -1).flatten(0, 1)
    value = join_copies(critic(inputs, task.repeat_interleave(samples)).squeeze(-1), twins)
    return own_value(value.view(-1, samples).T, log_probability, temperature)


def policy_filter(
    comparable: Float[Tensor, "N J"], own: Float[Tensor, " N"]
) -> Bool[Tensor, "N J"]:
    """Say which candidates are worth at least the task's own policy.

    He et al. 2024, equation 11. Equal values pass, so that the own policy survives an exact tie.
    """
    return comparable >= own.unsqueeze(-1)


def selectable(
    passed: Bool[Tensor, "N J"], task: Int[Tensor, " N"], mode: FilterMode
) -> Bool[Tensor, "N J"]:
    """Return the candidates that a choice is made among; never none of them.

    on: those that passed, the task's own where none did (He et al. 2024, equation 12);
    fallback_only: all, the task's own alone where none passed (their released code); off: all.
    """
    if mode == "off":
        return torch.ones_like(passed)
    chosen_from = passed if mode == "on" else torch.ones_like(passed)
    candidate = torch.arange(passed.shape[1], device=passed.device)
    only_own = candidate == task.unsqueeze(-1)
    return torch.where(passed.any(-1, keepdim=True), chosen_from, only_own)


def restrict(logits: Float[Tensor, "N J"], among: Bool[Tensor, "N J"]) -> Float[Tensor, "N J"]:
    """Return logits whose softmax is the guide's distribution renormalised over `among`."""
    return logits.masked_fill(~among, -torch.inf)


def draw_candidate(
    logits: Float32[np.ndarray, "N J"], generator: np.random.Generator
) -> Int64[np.ndarray, " N"]:
    """Draw one candidate per row from softmax(logits); minus infinity is never drawn."""
    return select_actions(logits, generator, greedy=False)[0]


def best_or_any(
    values: Float32[np.ndarray, "N J"],
    among: Bool[np.ndarray, "N J"],
    exploration: float,
    generator: np.random.Generator,
) -> Int64[np.ndarray, " N"]:
    """Choose epsilon-greedily among `among`: the most valued (ties: the lowest index), or any.

    The same numbers are drawn whatever comes of them, so that runs stay comparable.
    """
    explores = generator.random(len(values)) < exploration
    lottery = generator.random(values.shape)
    score = np.where(explores[:, None], lottery, values)
    chosen: np.ndarray = np.where(among, score, -np.inf).argmax(axis=-1)
    return chosen
