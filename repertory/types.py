"""What crosses a process: frozen dataclasses of numpy arrays.

Axes: T steps of an unroll, L lanes of a worker (B columns once they are a batch), H frames of
history, A actions, T1 = T + 1, HT1 = H + T + 1. Time leads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Shaped, UInt8


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """One observation as it leaves a lane.

    `stack` observations in a row make one network input (4 for Atari, 1 elsewhere); only single
    ones travel.
    """

    shape: tuple[int, ...]
    dtype: str
    stack: int = 1

    @property
    def history(self) -> int:
        """Observations before an unroll's first that its stacks reach back to."""
        return self.stack - 1


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """The action space: `size` discrete actions, or a box [-1, 1]^size."""

    kind: Literal["discrete", "box"]
    size: int


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task of a run. It describes; it holds no environment."""

    index: int
    name: str
    observation: ObservationSpec
    action: ActionSpec
    discount: float
    frames_per_step: int = 1
    relabel: Literal["none"] = "none"


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One finished episode as it was played: raw, unclipped return, whatever the learner was
    shown.
    """

    task: int
    raw_return: float
    length: int
    """Agent steps, the steps that reset not counted."""
    lives_lost: int = 0
    success: bool | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """What L lanes answer to one action each.

    Gymnasium's next-step reset order: after an end the next step ignores its action, resets, has
    reward 0 and
    `valid` False, and its observation is the first of the next episode (`started` True).
    """

    observation: Shaped[np.ndarray, "L *shape"]
    reward: Float32[np.ndarray, " L"]
    terminated: Bool[np.ndarray, " L"]
    """The return ends here (with life-loss ends: also where a life was lost and the game goes
    on).
    """
    truncated: Bool[np.ndarray, " L"]
    """The episode was cut by a time limit; the value of `observation` bootstraps it."""
    valid: Bool[np.ndarray, " L"]
    started: Bool[np.ndarray, " L"]
    episodes: tuple[EpisodeRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Unroll:
    """T steps of L lanes, each lane one task; a learner's batch is the same thing with B columns.

    observation[H + t] is the observation before step t, observation[H + T] the bootstrap one and
    observation[:H] the history that stacks reach back to. `age[t]` counts the observations since
    the first of
    the episode, capped at 255: a stack at t takes observation[H + t - min(k, age[t])] for k =
    0..H, so that
    it never crosses an episode's start (the first observation repeats), and age 0 tells a
    recurrent network to
    start afresh.
    """

    worker: int
    incarnation: int
    sequence: int
    task: Int32[np.ndarray, " L"]
    policy_version: Int64[np.ndarray, " L"]
    observation: Shaped[np.ndarray, "HT1 L *shape"]
    age: UInt8[np.ndarray, "T1 L"]
    action: Shaped[np.ndarray, "T L *action"]
    reward: Float32[np.ndarray, "T L"]
    terminated: Bool[np.ndarray, "T L"]
    truncated: Bool[np.ndarray, "T L"]
    valid: Bool[np.ndarray, "T L"]
    behaviour_log_probability: Float32[np.ndarray, "T L"]
    guide: Int32[np.ndarray, "T L"]
    """Whose policy acted; equals the lane's task when unguided."""
    recurrent: Float32[np.ndarray, "L R"]
    """Recurrent state before the first step; R is 0 for feed-forward networks."""
    episodes: tuple[EpisodeRecord, ...] = field(default=())

    @property
    def length(self) -> int:
        """T."""
        return int(self.reward.shape[0])

    @property
    def lanes(self) -> int:
        """L."""
        return int(self.reward.shape[1])


@dataclass(frozen=True, slots=True)
class Weights:
    """One published version of a network set as a flat float32 vector."""

    version: int
    vector: Float32[np.ndarray, " P"]
