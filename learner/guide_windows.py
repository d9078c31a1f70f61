"""What the guide reads off a batch of windows before it learns from them.

Axes: K steps of a window, K1 = K + 1, W windows, R valid steps, D numbers of an observation,
J candidates, M tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from learner.losses.hindsight import distance_scores, gaussian_scores, likeliest, undo_tanh
from learner.losses.windows import ends, last_observation, slipped_lengths, valid_steps
from learner.replayed import TensorWindows
from repertory.networks.control_agent import ControlAgent, split_gaussian
from repertory.networks.gaussian import draw
from repertory.networks.task_mlp import TaskMlp

CHUNK_NUMBERS = {"cpu": 1_000_000, "cuda": 80_000_000}
"""Numbers in one hidden layer of the candidates' policies evaluated at a time: on a CPU few enough
to stay near its caches, on CUDA 320 MB.
"""


class GuideWindows(NamedTuple):
    """Windows ordered by task, and what follows from them alone."""

    windows: TensorWindows
    counts: list[int]
    """Windows of each task; 0 for tasks that the guide may not act for."""
    valid: Bool[Tensor, "K W"]
    ended: Bool[Tensor, " W"]
    first: Float[Tensor, "W D"]
    last: Float[Tensor, "W D"]
    """The observation that bootstraps each window."""
    guide_length: Int[Tensor, " W"]
    """Steps that the guide critics' targets sum."""
    comparable_length: Int[Tensor, " W"]
    """Steps that the comparable critics' targets sum."""


class Reading(NamedTuple):
    """What the control policies say of the windows; none of it carries a gradient."""

    chosen: Int[Tensor, " W"]
    """Whose policy each window is learned as."""
    log_probability: Float[Tensor, "K W"] | None
    """log pi of a fresh action of the task's own policy at each valid step, 0 elsewhere."""


def prepare(
    windows: TensorWindows,
    tasks: int,
    time_limit: Literal["bootstrap", "terminal"],
    *,
    official: bool = False,
    hindsight: bool = True,
) -> GuideWindows:
    """Order windows by task if they are not; the counts are one read from the device.

    `official`: sum what CTPG's released code sums, where `hindsight` has a side effect.
    """
    task = windows.task.cpu().long()
    if bool((task[1:] < task[:-1]).any()):
        order = task.argsort(stable=True).to(windows.task.device)
        windows = TensorWindows(
            *(
                entry[order] if entry.dim() == 1 else entry.index_select(1, order)
                for entry in windows
            )
        )
    ended = ends(windows.terminated, windows.truncated, time_limit)
    slipped = slipped_lengths(windows.length, ended) if official else windows.length
    return GuideWindows(
        windows,
        torch.bincount(task, minlength=tasks).tolist(),
        valid_steps(windows.length, windows.reward.shape[0]),
        ended,
        windows.observation[0],
        last_observation(windows.observation, windows.length),
        slipped if hindsight else windows.length,
        slipped,
    )


def read_windows(
    agent: ControlAgent,
    prepared: GuideWindows,
    *,
    hindsight: bool,
    fresh: bool,
    generator: torch.Generator,
    number_format: torch.dtype,
) -> Reading:
    """Return who most likely played each window, and fresh log-probabilities if asked for.

    Candidates are evaluated on valid steps only, a chunk at a time, the trunk (or, where it reads
    the task, the first layer's product) shared between them; the task's own policy is one of
    them, so its fresh actions cost nothing more. Hidden layers compute in `number_format`.
    """
    windows = prepared.windows
    if not hindsight and not fresh:
        return Reading(windows.guide, None)
    steps, count = prepared.valid.shape
    observation = windows.observation[:-1].flatten(0, 1)
    action = windows.action.flatten(0, 1)
    held = prepared.valid.flatten().nonzero().squeeze(-1)
    scores = observation.new_zeros(steps * count, agent.candidates)
    log_probability = observation.new_zeros(steps * count)
    with torch.no_grad(), computing_in([agent.actor, *agent.experts.networks], number_format):
        for rows in torch.split(held, _chunk(agent, observation.device.type)):
            task = windows.task[rows % count].long()
            every = _outputs(agent, observation[rows], task, every=hindsight)
            if hindsight:
                scores[rows] = _scores(agent, every, action[rows])
            if fresh:
                column = task.clamp(max=every.shape[1] - 1)
                own = every[torch.arange(len(rows), device=rows.device), column]
                log_probability[rows] = _fresh(own, generator)
    chosen = windows.guide
    if hindsight:
        chosen = likeliest(scores.view(steps, count, -1), prepared.valid)
    return Reading(chosen, log_probability.view(steps, count) if fresh else None)


@contextmanager
def computing_in(networks: Sequence[TaskMlp], number_format: torch.dtype) -> Iterator[None]:
    """Let networks' hidden layers compute in another number format for a while."""
    usual = [network.number_format for network in networks]
    try:
        for network in networks:
            network.number_format = number_format
        yield
    finally:
        for network, before in zip(networks, usual, strict=True):
            network.number_format = before


def _chunk(agent: ControlAgent, device: str) -> int:
    """Return how many rows to evaluate at a time; one network's hidden layers are held at once."""
    widest = max(
        (1 if actor.code is None else actor.tasks) * actor.head_weight.shape[2]
        for actor in (agent.actor, *agent.experts.networks)
    )
    return max(1, CHUNK_NUMBERS.get(device, CHUNK_NUMBERS["cuda"]) // widest)


def _outputs(agent: ControlAgent, observation: Tensor, task: Tensor, *, every: bool) -> Tensor:
    """Return outputs of every candidate, [R, J, O], or at least of the task's own, [R, 1, O]."""
    if every:
        return agent.every_candidate(observation)
    actor = agent.actor
    if (
        actor.code is None and agent.policies is actor
    ):  # Heads alone cost little beside a shared trunk.
        return actor.every_task(observation)[0]
    own = agent.policies.forward(observation, task)[0]
    return own.unsqueeze(1)


def _scores(agent: ControlAgent, every: Tensor, action: Tensor) -> Tensor:
    """Return log densities of the actions under every candidate, up to what they share."""
    if agent.log_temperature is None:
        return distance_scores(torch.tanh(every), action)
    mean, log_deviation = split_gaussian(every)
    return gaussian_scores(mean, log_deviation, undo_tanh(action))


def _fresh(own: Tensor, generator: torch.Generator) -> Tensor:
    """Return log pi of an action drawn from each row's policy."""
    mean, log_deviation = split_gaussian(own)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return draw(mean, log_deviation, noise).log_probability
