"""Exact stacks of observations out of single ones, on any device.

Axes: T steps, B columns, H observations of history, K = H + 1 observations of a stack (oldest
first), N = (T + 1) * B rows.
"""

from __future__ import annotations

import torch
from jaxtyping import Int64, Shaped, UInt8
from torch import Tensor


def stack_rows(age: UInt8[Tensor, "T1 B"], history: int) -> Int64[Tensor, "T1 B K"]:
    """Return which row of `observation` each place of each stack takes, oldest first.

    Place k before the newest takes row H + t - min(k, age[t]): a stack never crosses the start
    of its episode, whose first observation repeats.
    """
    steps = torch.arange(age.shape[0], device=age.device).view(-1, 1, 1)
    back = torch.arange(history, -1, -1, device=age.device)
    return history + steps - torch.minimum(back, age.long().unsqueeze(-1))


def rebuild_vectors(
    observation: Shaped[Tensor, "HT1 B *shape"], age: UInt8[Tensor, "T1 B"]
) -> Shaped[Tensor, "T1 B *shape K"]:
    """Return the stacks with the place in the stack as last axis; H is implied by the shapes."""
    history = observation.shape[0] - age.shape[0]
    rows = stack_rows(age, history)
    columns = torch.arange(age.shape[1], device=age.device).view(1, -1, 1)
    return observation[rows, columns].movedim(2, -1)


def rebuild_frames(
    observation: UInt8[Tensor, "HT1 B Y X"], age: UInt8[Tensor, "T1 B"]
) -> UInt8[Tensor, "N Y X K"]:
    """Return stacked frames with the place in the stack as last axis, rows by step then column."""
    history = observation.shape[0] - age.shape[0]
    columns = age.shape[1]
    flat = observation.flatten(0, 1)
    rows = stack_rows(age, history) * columns
    rows = (rows + torch.arange(columns, device=age.device).view(1, -1, 1)).flatten(0, 1)
    stacked = flat.new_empty(rows.shape[0], *flat.shape[1:], history + 1)
    for place in range(history + 1):
        stacked[..., place] = flat[rows[:, place]]
    return stacked
