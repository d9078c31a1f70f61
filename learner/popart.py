"""PopArt: value targets normalised per task, and the value head rescaled so that no output moves.

Axes: T steps, B columns, M tasks, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from learner.parallel.exchange import ALONE, Exchange
from repertory.config import PopArtConfig
from repertory.networks.heads import ValueHead, normalised_values


class Statistics(NamedTuple):
    """Moments of each task's value targets."""

    mu: Float64[Tensor, " M"]
    nu: Float64[Tensor, " M"]
    """Second moment."""
    sigma: Float64[Tensor, " M"]
    """sqrt(nu - mu^2), clipped."""


class HeadUpdate(NamedTuple):
    """New statistics of a value head and the weights that preserve its outputs under them."""

    statistics: Statistics
    weight: Float[Tensor, "M F"]
    bias: Float[Tensor, " M"]


def sums_per_task(
    columns: Float[Tensor, "B *K"], task: Int[Tensor, " B"], tasks: int
) -> Float[Tensor, "M *K"]:
    """Return the sum of the columns of each task, in an order that does not vary."""
    member = F.one_hot(task.long(), tasks).to(columns.dtype)
    return member.T @ columns


def updated_statistics(
    old: Statistics,
    *,
    target: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    task: Int[Tensor, " B"],
    step_size: float,
    sigma_min: float,
    sigma_max: float,
    exchange: Exchange = ALONE,
) -> Statistics:
    """Return the moving averages after a batch of un-normalised targets.

    Hessel et al. 2019 step by beta at every target. A batch has no order in time, so the n valid
    targets of a task are taken as n such steps in all orders at once: the batch's mean with
    weight 1 - (1 - beta)^n. The pace per environment step then depends on neither batch size nor
    number of tasks, and a task that is absent (n = 0) keeps its statistics. Of several learners
    the targets of all count.
    """
    seen = torch.where(valid, target, 0.0).to(torch.float64)
    columns = torch.stack([valid.to(torch.float64).sum(0), seen.sum(0), seen.square().sum(0)], -1)
    (sums,) = exchange.total(sums_per_task(columns, task, old.mu.shape[0]))
    count, first, second = sums.unbind(-1)
    kept = (1.0 - step_size) ** count
    mu = kept * old.mu + (1.0 - kept) * first / count.clamp(min=1.0)
    nu = kept * old.nu + (1.0 - kept) * second / count.clamp(min=1.0)
    sigma = (nu - mu.square()).clamp(min=0.0).sqrt().clamp(sigma_min, sigma_max)
    return Statistics(mu, nu, torch.where(count > 0, sigma, old.sigma))


def preserving_update(head: ValueHead, new: Statistics) -> HeadUpdate:
    """Return w sigma / sigma' and (sigma b + mu - mu') / sigma' for new statistics.

    Their values are those of the rescaled head and carry gradient to the features accordingly;
    their own gradient arrives at the head's parameters unscaled, as if these had been rescaled
    already. So statistics, weights and gradient step can be accepted or refused together.
    """
    old = statistics_of(head)
    assert head.bias is not None
    with torch.no_grad():
        shrink = old.sigma / new.sigma
        weight = (head.weight.to(torch.float64) * shrink.unsqueeze(-1)).to(head.weight.dtype)
        bias = (old.sigma * head.bias.to(torch.float64) + old.mu - new.mu) / new.sigma
        bias = bias.to(head.bias.dtype)
    return HeadUpdate(
        new,
        weight + (head.weight - head.weight.detach()),
        bias + (head.bias - head.bias.detach()),
    )


def statistics_of(head: ValueHead) -> Statistics:
    """Return the statistics that a head holds."""
    return Statistics(head.mu, head.nu, head.sigma)


def accept(head: ValueHead, update: HeadUpdate) -> None:
    """Write new statistics and preserving weights into the head."""
    assert head.bias is not None
    with torch.no_grad():
        head.weight.copy_(update.weight)
        head.bias.copy_(update.bias)
        head.mu.copy_(update.statistics.mu)
        head.nu.copy_(update.statistics.nu)
        head.sigma.copy_(update.statistics.sigma)


class NormalisedReturns(NamedTuple):
    """Values, targets and advantages in the units that the losses use."""

    value: Float[Tensor, "T B"]
    target: Float[Tensor, "T B"]
    advantage: Float[Tensor, "T B"]
    head: HeadUpdate | None
    """What the value head becomes with this batch's statistics; None without PopArt."""


def normalised_returns(
    head: ValueHead,
    config: PopArtConfig,
    *,
    features: Float[Tensor, "T B F"],
    value: Float[Tensor, "T B"],
    target: Float[Tensor, "T B"],
    advantage: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    task: Int[Tensor, " B"],
    exchange: Exchange = ALONE,
) -> NormalisedReturns:
    """Update the statistics with this batch's targets, then return everything in their units.

    Without PopArt the units are the rewards' own. Otherwise target and value become
    (G - mu) / sigma and the head's own output, and the advantage A / sigma, which is
    rho ((q - mu) / sigma - n): every task's gradients are then of comparable size.
    """
    if not config.enabled:
        return NormalisedReturns(value, target, advantage, None)
    new = updated_statistics(
        statistics_of(head),
        target=target,
        valid=valid,
        task=task,
        step_size=config.step_size,
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
        exchange=exchange,
    )
    update = preserving_update(head, new)
    mu, sigma = new.mu[task.long()], new.sigma[task.long()]
    output = normalised_values(features, task.expand(target.shape), update.weight, update.bias)
    return NormalisedReturns(
        value=output,
        target=((target - mu) / sigma).to(output.dtype),
        advantage=(advantage / sigma).to(output.dtype),
        head=update,
    )
