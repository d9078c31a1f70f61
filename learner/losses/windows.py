"""Returns of windows of replay, each with its own length and its own end.

Axes: K steps of a window at most, K1 = K + 1, W windows, D numbers of an observation.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def valid_steps(length: Int[Tensor, " W"], steps: int) -> Bool[Tensor, "K W"]:
    """Say which of `steps` steps each window holds: the first `length` ones."""
    return torch.arange(steps, device=length.device).unsqueeze(1) < length


def ends(
    terminated: Bool[Tensor, " W"],
    truncated: Bool[Tensor, " W"],
    time_limit: Literal["bootstrap", "terminal"],
) -> Bool[Tensor, " W"]:
    """Say whether the return ends with the window's last valid step.

    A time limit does not end it, unless `time_limit` says to take one for an end.
    """
    return terminated | truncated if time_limit == "terminal" else terminated


def slipped_lengths(length: Int[Tensor, " W"], ended: Bool[Tensor, " W"]) -> Int[Tensor, " W"]:
    """Return how many steps of each window CTPG's released code sums: one of those that ended.

    Its recursion multiplies by the end flag of the step before (of the last step, for the first),
    and its hindsight overwrites the first step's flag with the product of all. For comparison only.
    """
    return torch.where(ended, torch.ones_like(length), length)


def last_observation(
    observation: Float[Tensor, "K1 W D"], length: Int[Tensor, " W"]
) -> Float[Tensor, "W D"]:
    """Return the observation that follows each window's last valid step."""
    return observation[length.long(), torch.arange(length.shape[0], device=length.device)]


def window_target(
    *,
    reward: Float[Tensor, "K W"],
    length: Int[Tensor, " W"],
    ended: Bool[Tensor, " W"],
    bootstrap: Float[Tensor, " W"],
    discount: float,
) -> Float[Tensor, " W"]:
    """Return sum_(k<m) gamma^k r_k + gamma^m (1 - d) V, m a window's length.

    He et al. 2024, equations 5 and 6 (for the guide) and 13 (for the comparable critic, whose
    rewards carry the entropy bonus), by the recursion T <- r_k + gamma T from the last valid step
    back. d ends the return at the last valid step, the only one that can be an end. What stands
    beyond it, and the bootstrap value of a window that ended, is not looked at.
    """
    target = torch.where(ended, 0.0, bootstrap)
    valid = valid_steps(length, reward.shape[0])
    for step in range(reward.shape[0] - 1, -1, -1):
        target = torch.where(valid[step], reward[step] + discount * target, target)
    return target
