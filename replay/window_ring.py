"""Rings of windows, one per task, in one contiguous block per field.

Axes: M tasks, R slots of a task's ring, F = M * R slots, W windows of K steps, K1 = K + 1, N rows
of a batch, D numbers of an observation, A actions.

A slot takes (K + 1) D + K (A + 1) numbers of four bytes and 26 bytes of its own, so that a step of
Meta-World (D = 39, A = 4, K = 10) costs 194.2 bytes and one of HalfCheetah (17, 6) 105.4; storing
both observations of every step would cost 334 and 166.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64

from repertory.ports import State
from repertory.types import Windows
from replay.window_assembler import ClosedWindows

_NAMES = (
    "observation",
    "action",
    "reward",
    "length",
    "terminated",
    "truncated",
    "guide",
    "policy_version",
    "inserted_at",
)
_MOST_TRIES = 64


class Rows(NamedTuple):
    """N sampled steps: the slot of each (over all rings) and the step within its window."""

    slot: Int64[np.ndarray, " N"]
    step: Int64[np.ndarray, " N"]


class WindowRings:
    """M rings of `slots` windows each; the oldest window of a task makes room for its newest.

    With `poison` the block starts as NaN, to show that nothing is read that was never written;
    without, memory is taken up only as it is written.
    """

    def __init__(
        self,
        task_count: int,
        *,
        slots: int,
        window: int,
        observation_size: int,
        action_size: int,
        poison: bool = False,
    ) -> None:
        self._slots = slots
        self._window = window
        total = task_count * slots
        self.observation = np.empty((total, window + 1, observation_size), np.float32)
        self.action = np.empty((total, window, action_size), np.float32)
        self.reward = np.empty((total, window), np.float32)
        self.length = np.zeros(total, np.int32)
        self.terminated = np.zeros(total, np.bool_)
        self.truncated = np.zeros(total, np.bool_)
        self.guide = np.zeros(total, np.int32)
        self.policy_version = np.zeros(total, np.int64)
        self.inserted_at = np.zeros(total, np.int64)
        """Steps of the task that had come when the window did."""
        if poison:
            for array in (self.observation, self.action, self.reward):
                array.fill(np.nan)
        self.put_count = np.zeros(task_count, np.int64)
        """Windows ever put into each ring; modulo `slots` it is where the next one goes."""
        self.rows = np.zeros(task_count, np.int64)
        """Steps held of each task."""
        self._longest = np.zeros(task_count, np.int64)

    @property
    def bytes_per_row(self) -> float:
        """Bytes that a step costs where all windows are full."""
        arrays = (getattr(self, name) for name in _NAMES)
        return float(sum(array[0].nbytes for array in arrays)) / self._window

    @property
    def filled(self) -> Int64[np.ndarray, " M"]:
        """Windows held of each task."""
        return np.minimum(self.put_count, self._slots)

    def put(self, closed: ClosedWindows, inserted: Int64[np.ndarray, " M"]) -> None:
        """Copy windows into the rings of their tasks, in their order.

        `inserted[i]` is how many steps of task i have come by now.
        """
        # Rank of each window among those of its task.
        order = np.argsort(closed.task, kind="stable")
        task = closed.task[order].astype(np.int64)
        counts = np.bincount(task, minlength=len(self.rows))
        rank = np.arange(len(task)) - (np.cumsum(counts) - counts)[task]
        # Of more windows than a ring has slots only the newest are written.
        kept = rank >= counts[task] - self._slots
        order, task, rank = order[kept], task[kept], rank[kept]
        slot = task * self._slots + (self.put_count[task] + rank) % self._slots
        length = closed.length[order]
        np.add.at(self.rows, task, length.astype(np.int64) - self.length[slot])
        np.maximum.at(self._longest, task, length)
        for name in _NAMES:
            if name != "inserted_at":
                getattr(self, name)[slot] = getattr(closed, name)[order]
        self.inserted_at[slot] = inserted[task]
        self.put_count += counts

    # -- sampling --------------------------------------------------------------------------------

    def sample_rows(self, share: int, generator: np.random.Generator) -> Rows:
        """Draw `share` steps of every task, ordered by task, uniformly and with replacement.

        A step is drawn among all places of the filled slots and again if its window is shorter.
        Every task must hold a window.
        """
        task = np.repeat(np.arange(len(self.rows)), share)
        places = self.filled * self._longest
        # So many draws at once that one of them is likely to hit, where windows are short.
        tries = min(_MOST_TRIES, math.ceil(float((places / self.rows).max())))
        slot, step = np.empty_like(task), np.empty_like(task)
        missing = np.arange(len(task))
        while missing.size:
            owner = task[missing][:, None]
            drawn = generator.integers(0, places[owner], (missing.size, tries))
            drawn_slot, drawn_step = np.divmod(drawn, self._longest[owner])
            drawn_slot += owner * self._slots
            hit = drawn_step < self.length[drawn_slot]
            first = hit.argmax(axis=1)[:, None]
            slot[missing] = np.take_along_axis(drawn_slot, first, 1)[:, 0]
            step[missing] = np.take_along_axis(drawn_step, first, 1)[:, 0]
            missing = missing[~hit.any(axis=1)]
        return Rows(slot, step)

    def observations(self, rows: Rows, *, after: int = 0) -> Float32[np.ndarray, "N D"]:
        """Copy the observations before the sampled steps, or those `after` steps later."""
        flat = self.observation.reshape(-1, self.observation.shape[2])
        return _taken(flat, rows.slot * (self._window + 1) + rows.step + after)

    def actions(self, rows: Rows) -> Float32[np.ndarray, "N A"]:
        """Copy the actions of the sampled steps."""
        flat = self.action.reshape(-1, self.action.shape[2])
        return _taken(flat, rows.slot * self._window + rows.step)

    def sample_windows(
        self, shares: Int64[np.ndarray, " M"], generator: np.random.Generator
    ) -> Windows:
        """Draw `shares[i]` windows of each task i, ordered by task.

        Without replacement where the task holds enough, else with.
        """
        picked = []
        for task, share in enumerate(shares.tolist()):
            held = int(self.filled[task])
            if share:
                own = generator.choice(held, share, replace=held < share, shuffle=False)
                picked.append(own + task * self._slots)
        slot = np.concatenate(picked)
        step = np.arange(self._window)[:, None]
        row = slot * (self._window + 1) + np.arange(self._window + 1)[:, None]
        flat = self.observation.reshape(-1, self.observation.shape[2])
        flat_action = self.action.reshape(-1, self.action.shape[2])
        return Windows(
            task=(slot // self._slots).astype(np.int32),
            guide=self.guide[slot],
            observation=_taken(flat, row),
            action=_taken(flat_action, slot * self._window + step),
            reward=self.reward[slot, step],
            length=self.length[slot],
            terminated=self.terminated[slot],
            truncated=self.truncated[slot],
        )

    def partial(self) -> float:
        """Return the share of the held windows that are shorter than K."""
        held = int(self.filled.sum())
        full = int((self.length == self._window).sum())
        return 1.0 - full / held if held else 0.0

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """Return what is held, in all and of each task; fill is the share of its ring in use."""
        row = {"replay/rows": float(self.rows.sum()), "replay/windows_partial": self.partial()}
        for name, rows, filled in zip(names, self.rows, self.filled, strict=True):
            row[f"task/{name}/replay_rows"] = float(rows)
            row[f"task/{name}/replay_fill"] = float(filled) / self._slots
        return row

    # -- checkpoint ------------------------------------------------------------------------------

    def task_state(self, task: int) -> State:
        """Return the filled part of one task's ring."""
        first = task * self._slots
        part = slice(first, first + int(self.filled[task]))
        arrays: State = {name: getattr(self, name)[part].copy() for name in _NAMES}
        longest = int(self._longest[task])
        return {
            "put_count": int(self.put_count[task]),
            "slots": self._slots,
            "longest": longest,
            **arrays,
        }

    def restore_task(self, task: int, state: State, guide: Int32[np.ndarray, " W"]) -> None:
        """Take up one task's ring; of a larger one the newest windows. `guide` replaces its own.

        The windows must have K steps, and observations and actions their sizes.
        """
        count, held = int(state["put_count"]), len(state["length"])
        if int(state["slots"]) == self._slots:
            kept = np.arange(held)
        else:
            oldest_first = (np.arange(held) + (count if held < count else 0)) % max(held, 1)
            kept = oldest_first[-self._slots :]
            count = len(kept)
        first = task * self._slots
        part = slice(first, first + len(kept))
        self.length[first : first + self._slots] = 0
        for name in _NAMES:
            getattr(self, name)[part] = (guide if name == "guide" else state[name])[kept]
        self.put_count[task] = count
        self.rows[task] = int(self.length[part].sum())
        self._longest[task] = int(state["longest"])

    def clear(self) -> None:
        """Hold nothing."""
        self.length[:] = 0
        self.put_count[:] = 0
        self.rows[:] = 0
        self._longest[:] = 0


def _taken(
    flat: Float32[np.ndarray, "rows size"], index: np.ndarray
) -> Float32[np.ndarray, "... size"]:
    # With `out`, numpy buffers unless it is told not to raise; all indices are in range here.
    out = np.empty((*index.shape, flat.shape[1]), np.float32)
    return np.take(flat, index, axis=0, out=out, mode="clip")
