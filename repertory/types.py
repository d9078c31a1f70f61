"""What crosses a process: frozen dataclasses of numpy arrays.

Axes: T steps of an unroll, L lanes of a worker (B columns once they are a batch), H frames of
history, A actions, T1 = T + 1, HT1 = H + T + 1; N replayed steps, W windows of K steps, K1 = K + 1,
D numbers of an observation, M tasks. Time leads.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Shaped, UInt8

from repertory.masks import PackedMasks, masks_from_state, masks_state


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
class EnvironmentFault:
    """One failure of an environment that a worker survived."""

    task: int
    reason: str
    """A sentence that names task and lane."""
    gave_up: bool
    """Whether the worker stopped playing the task over it."""


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
    faults: tuple[EnvironmentFault, ...] = ()
    """Failures that were contained, those of a reset before the first step included."""


@dataclass(frozen=True, slots=True)
class GuidanceCounts:
    """What choosing whose policy acts came to, per task; blocked tasks are not asked."""

    choices: Int64[np.ndarray, " M"]
    candidates: Int64[np.ndarray, " M"]
    """Candidates that the policy filter judged."""
    passed: Int64[np.ndarray, " M"]
    """Those of them that were worth following."""
    fallbacks: Int64[np.ndarray, " M"]
    """Choices of the task's own policy because no candidate passed."""
    trials: Int64[np.ndarray, " M"]
    """Choices that tried a candidate out."""

    @classmethod
    def zeros(cls, tasks: int) -> GuidanceCounts:
        """Return counts of nothing yet."""
        return cls(*(np.zeros(tasks, np.int64) for _ in fields(cls)))

    def __add__(self, other: GuidanceCounts) -> GuidanceCounts:
        """Return the sums of both."""
        return GuidanceCounts(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(GuidanceCounts))
        )


@dataclass(frozen=True, slots=True)
class Unroll:
    """T steps of L lanes, each lane one task; a learner's batch is the same thing with B columns.

    observation[H + t] is the observation before step t, observation[H + T] the bootstrap one and
    observation[:H] the history that stacks reach back to. `age[t]` counts the observations since
    the first of the episode, capped at 255: a stack at t takes observation[H + t - min(k, age[t])]
    for k = 0..H, so that it never crosses an episode's start (the first observation repeats), and
    age 0 tells a recurrent network to start afresh.
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
    decision: Bool[np.ndarray, "T L"]
    """Whether a guide decision was taken at this step: a window of replay begins here."""
    recurrent: Float32[np.ndarray, "L R"]
    """Recurrent state before the first step; R is 0 for feed-forward networks."""
    episodes: tuple[EpisodeRecord, ...] = field(default=())
    guidance: GuidanceCounts | None = None
    """What was chosen during these steps; None where nothing ever is."""
    mask_version: int = -1
    """Of the masks that acted, which come with the weights of `policy_version`; -1 without any."""
    faults: tuple[EnvironmentFault, ...] = ()
    given_up: tuple[int, ...] = ()
    """Tasks whose environments failed too often: the worker's lanes of them stand still."""

    @property
    def length(self) -> int:
        """T."""
        return int(self.reward.shape[0])

    @property
    def lanes(self) -> int:
        """L."""
        return int(self.reward.shape[1])


UNROLL_SCALARS: Final = frozenset({"worker", "incarnation", "sequence", "mask_version"})
UNROLL_RECORDS: Final = frozenset({"episodes", "guidance", "faults", "given_up"})
"""What is counted when an unroll arrives, and is of no use afterwards."""
UNROLL_ARRAYS: Final = tuple(
    f.name for f in fields(Unroll) if f.name not in UNROLL_SCALARS | UNROLL_RECORDS
)
LANE_FIRST: Final = frozenset({"task", "policy_version", "recurrent"})
"""Arrays of an unroll whose lane axis comes first; all others have time first and lanes second."""


@dataclass(frozen=True, slots=True)
class Windows:
    """W windows of at most K steps each, from one guide decision on; none crosses an episode's end.

    Step k of window w is valid if k < length[w]; the observation that follows the last valid step
    is observation[length[w], w], of a truncated episode its own last one. What lies beyond is
    zero. Only the last valid step can be an end.
    """

    task: Int32[np.ndarray, " W"]
    guide: Int32[np.ndarray, " W"]
    """Whose policy was chosen when it was played."""
    observation: Float32[np.ndarray, "K1 W D"]
    action: Float32[np.ndarray, "K W A"]
    reward: Float32[np.ndarray, "K W"]
    length: Int32[np.ndarray, " W"]
    terminated: Bool[np.ndarray, " W"]
    truncated: Bool[np.ndarray, " W"]


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """N replayed steps ordered by task, N/M of each, and windows where the guide is due."""

    task: Int32[np.ndarray, " N"]
    observation: Float32[np.ndarray, "N D"]
    action: Float32[np.ndarray, "N A"]
    reward: Float32[np.ndarray, " N"]
    terminated: Bool[np.ndarray, " N"]
    truncated: Bool[np.ndarray, " N"]
    next_observation: Float32[np.ndarray, "N D"]
    success_rate: Float32[np.ndarray, " M"]
    """Share of each task's latest episodes that succeeded; NaN while unknown."""
    windows: Windows | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """One published version of a network set as a flat float32 vector."""

    version: int
    vector: Float32[np.ndarray, " P"]
    guided: Bool[np.ndarray, " M"] | None = None
    """Tasks that the guide may act for (others are blocked); None where there is no guide."""
    masks: tuple[PackedMasks, ...] | None = None
    """Which weights of the policy each task acts with, then of the critic if it travels too; None
    where tasks own everything. Bound to this version: another's masks make nobody's policy.
    """

    @property
    def mask_version(self) -> int:
        """Version of the masks, -1 without any; rises when those of any network change.

        Not the policy's alone: critics' masks change without it where an actor learns less often.
        """
        return -1 if self.masks is None else sum(masks.version for masks in self.masks)


def weights_state(weights: Weights) -> dict[str, Any]:
    """Return weights as a tree for a checkpoint."""
    masks = weights.masks
    return {
        "version": weights.version,
        "vector": weights.vector,
        "guided": weights.guided,
        "masks": None if masks is None else [masks_state(one) for one in masks],
    }


def weights_from_state(state: dict[str, Any]) -> Weights:
    """Return the weights that `weights_state` was given."""
    guided = state["guided"]
    # Checkpoints from before there were masks have none.
    masks = state.get("masks")
    return Weights(
        int(state["version"]),
        np.array(state["vector"]),
        None if guided is None else np.array(guided),
        None if masks is None else tuple(masks_from_state(one) for one in masks),
    )
