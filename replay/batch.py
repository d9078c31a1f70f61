"""From rows (lanes of arrived unrolls) to one contiguous batch, and from unrolls to checkpoint
state.

Axes: T steps, B columns of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import numpy as np

from repertory.ports import State
from repertory.types import LANE_FIRST, UNROLL_ARRAYS, UNROLL_SCALARS, EpisodeRecord, Unroll


class Row(NamedTuple):
    """One lane of an unroll, by reference."""

    unroll: Unroll
    lane: int

    @property
    def version(self) -> int:
        """The policy version that acted."""
        return int(self.unroll.policy_version[self.lane])


def batch_of(rows: Sequence[Row]) -> Unroll:
    """Copy `rows` into one unroll of B columns, in their order, one contiguous block per field."""
    arrays: dict[str, Any] = {}
    # Columns that come from one block are copied in one call: a worker's lanes usually arrive
    # whole.
    groups: dict[int, tuple[Unroll, list[int], list[int]]] = {}
    for column, row in enumerate(rows):
        _, columns, lanes = groups.setdefault(id(row.unroll), (row.unroll, [], []))
        columns.append(column)
        lanes.append(row.lane)
    first = rows[0].unroll
    for name in UNROLL_ARRAYS:
        like = getattr(first, name)
        axis = 0 if name in LANE_FIRST else 1
        shape = (*like.shape[:axis], len(rows), *like.shape[axis + 1 :])
        block = np.empty(shape, like.dtype)
        for unroll, columns, lanes in groups.values():
            source = getattr(unroll, name)
            if axis == 0:
                block[columns] = source[lanes]
            else:
                for column, lane in zip(columns, lanes, strict=True):
                    block[:, column] = source[:, lane]
        arrays[name] = block
    return Unroll(worker=-1, incarnation=0, sequence=0, **arrays)


def episodes_to_state(episodes: Sequence[EpisodeRecord]) -> list[list[Any]]:
    """Return episodes that were not asked for yet as a part of a checkpoint."""
    return [
        [e.task, e.raw_return, e.length, e.lives_lost, e.success, e.truncated] for e in episodes
    ]


def episodes_from_state(state: Sequence[Sequence[Any]]) -> list[EpisodeRecord]:
    """Return the episodes that `episodes_to_state` was given."""
    return [EpisodeRecord(*saved) for saved in state]


def unroll_to_state(unroll: Unroll) -> State:
    """Return `unroll` as a checkpoint tree; its records were counted on arrival and stay out."""
    return {name: getattr(unroll, name) for name in (*UNROLL_ARRAYS, *sorted(UNROLL_SCALARS))}


def unroll_from_state(state: State) -> Unroll:
    """Return the unroll that `unroll_to_state` was given."""
    required = {f.name: state[f.name] for f in fields(Unroll) if f.default is MISSING}
    return Unroll(**(state | required))
