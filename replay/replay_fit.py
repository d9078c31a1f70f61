"""What a replay refuses: runs it cannot hold, and saved contents that are not of such a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from repertory.errors import BadInput
from repertory.ports import State
from repertory.types import TaskSpec


def renumbered(
    guide: Int32[np.ndarray, " W"], saved: list[str], names: list[str], task: int
) -> Int32[np.ndarray, " W"]:
    """Return `guide` in this run's numbers; a task that is no more counts as the window's own."""
    if names == saved:
        return guide
    numbers = np.array([names.index(n) if n in names else task for n in saved], np.int32)
    known = guide < len(saved)
    return np.where(known, numbers[np.where(known, guide, 0)], task).astype(np.int32)


def check_run(tasks: Sequence[TaskSpec], *, capacity: int, batch_size: int, window: int) -> None:
    """Raise BadInput if the numbers do not divide, or the tasks are not what replay holds."""
    count = len(tasks)
    if batch_size % count:
        raise BadInput(
            f"learner.batch_size {batch_size} must be a multiple of the {count} tasks: every task "
            "gives the same number of replayed steps."
        )
    if capacity < count * window:
        raise BadInput(
            f"replay.capacity {capacity} is too small: {count} tasks need at least "
            f"{count * window}, a window of {window} steps each."
        )
    first = tasks[0]
    for task in tasks:
        spec = task.observation
        if task.action.kind != "box" or len(spec.shape) != 1 or spec.dtype != "float32":
            raise BadInput(
                f"{task.name} has {task.action.kind} actions and {spec.dtype} observations of "
                f"shape {list(spec.shape)}; replay holds box actions and float32 vectors."
            )
        if spec.stack != 1 or (spec, task.action) != (first.observation, first.action):
            raise BadInput(
                f"{task.name} and {first.name} cannot share a replay: it holds single observations "
                "and actions of one size for all tasks."
            )


def check_saved(state: State, task: TaskSpec, window: int) -> None:
    """Raise BadInput if saved windows are not of `window` steps, or of other sizes than `task`."""
    if state["window"] != window:
        raise BadInput(
            f"the saved replay has windows of {state['window']} steps, this run has windows of "
            f"{window}."
        )
    own = task.observation.shape[0], task.action.size
    for name, ring in state["rings"].items():
        sizes = ring["observation"].shape[2], ring["action"].shape[2]
        if sizes != own:
            raise BadInput(
                f"the saved replay of {name} has observations and actions of {sizes[0]} and "
                f"{sizes[1]} numbers, this run has {own[0]} and {own[1]}."
            )
