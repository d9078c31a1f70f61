"""Plays T steps on all lanes of a worker and returns them as one `Unroll`, block by block
contiguous.

Axes: T steps, L lanes, H observations of history. With two groups of lanes the policy decides for
one group on a second thread while the other group's environments step.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from actors.policy import Decision, Policy
from actors.stacking import RollingStack
from repertory.errors import EnvironmentFailure
from repertory.ports import Lanes, State
from repertory.types import (
    EnvironmentFault,
    EpisodeRecord,
    GuidanceCounts,
    TaskSpec,
    Unroll,
    Weights,
)


@dataclass(slots=True)
class LaneGroup:
    """Some lanes of a worker with the policy that acts for them and what both carry between
    steps.
    """

    lanes: Lanes
    policy: Policy
    stack: RollingStack
    age: np.ndarray
    """uint8 [L]: observations since the first of the episode, capped at 255."""
    recurrent: np.ndarray
    tail: np.ndarray
    """The last H + 1 observations, [H + 1, L, *shape]."""
    columns: slice

    def decide(self) -> Decision:
        """Ask the policy for one action per lane."""
        return self.policy.act(
            self.stack.network_input, self.lanes.task, self.recurrent, self.age == 0
        )


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The arrays of the unroll being filled."""

    observation: np.ndarray
    age: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    log_probability: np.ndarray
    guide: np.ndarray
    decision: np.ndarray
    recurrent: np.ndarray


class Unroller:
    """Owns the lanes of one worker; every call of `unroll` goes on where the last one stopped."""

    def __init__(
        self,
        groups: Sequence[tuple[Lanes, Policy]],
        tasks: Sequence[TaskSpec],
        *,
        length: int,
        worker: int,
        incarnation: int,
    ) -> None:
        self._tasks = tuple(tasks)
        self._length = length
        self._worker = worker
        self._incarnation = incarnation
        self._sequence = 0
        self._mask_version = -1
        self._faults: list[EnvironmentFault] = []
        self._given_up: set[int] = set()
        spec = self._tasks[0].observation
        self._spec = spec
        self._groups: list[LaneGroup] = []
        start = 0
        for lanes, policy in groups:
            count = len(lanes.task)
            first = lanes.reset()
            stack = RollingStack(spec, count)
            stack.push(first, np.ones(count, np.bool_))
            self._groups.append(
                LaneGroup(
                    lanes=lanes,
                    policy=policy,
                    stack=stack,
                    age=np.zeros(count, np.uint8),
                    recurrent=np.zeros((count, policy.recurrent_size), np.float32),
                    tail=np.repeat(first[None], spec.history + 1, axis=0),
                    columns=slice(start, start + count),
                )
            )
            start += count
        self._lane_count = start
        self._task = np.concatenate([g.lanes.task for g in self._groups]).astype(np.int32)
        self._thread = ThreadPoolExecutor(1, "policy") if len(self._groups) > 1 else None

    @property
    def version(self) -> int:
        """The policy version that acts."""
        return self._groups[0].policy.version

    @property
    def lane_shapes(self) -> list[tuple[int, ...]]:
        """The number of lanes of each group."""
        return [group.age.shape for group in self._groups]

    def load(self, weights: Weights) -> None:
        """Act with `weights` from the next step on."""
        for group in self._groups:
            group.policy.load(weights)
        self._mask_version = weights.mask_version

    def unroll(self) -> Unroll:
        """Play T steps and return them."""
        blocks = self._new_blocks()
        history = self._spec.history
        for group in self._groups:
            blocks.observation[: history + 1, group.columns] = group.tail
            blocks.recurrent[group.columns] = group.recurrent
        version = self.version
        episodes: list[EpisodeRecord] = []
        if self._thread is None:
            group = self._groups[0]
            for t in range(self._length):
                self._step(group, group.decide(), t, blocks, episodes)
        else:
            self._pipelined(self._thread, blocks, episodes)
        for group in self._groups:
            blocks.age[-1, group.columns] = group.age
            group.tail = blocks.observation[-history - 1 :, group.columns].copy()
        self._sequence += 1
        faults, self._faults = tuple(self._faults), []
        self._given_up |= {fault.task for fault in faults if fault.gave_up}
        return Unroll(
            worker=self._worker,
            incarnation=self._incarnation,
            sequence=self._sequence,
            task=self._task,
            policy_version=np.full(self._lane_count, version, np.int64),
            observation=blocks.observation,
            age=blocks.age,
            action=blocks.action,
            reward=blocks.reward,
            terminated=blocks.terminated,
            truncated=blocks.truncated,
            valid=blocks.valid,
            behaviour_log_probability=blocks.log_probability,
            guide=blocks.guide,
            decision=blocks.decision,
            recurrent=blocks.recurrent,
            episodes=tuple(episodes),
            guidance=self._guidance(),
            mask_version=self._mask_version,
            faults=faults,
            given_up=tuple(sorted(self._given_up)),
        )

    def _guidance(self) -> GuidanceCounts | None:
        counts = [counted for g in self._groups if (counted := g.policy.guidance()) is not None]
        return reduce(add, counts) if counts else None

    def _pipelined(
        self, thread: ThreadPoolExecutor, blocks: _Blocks, episodes: list[EpisodeRecord]
    ) -> None:
        pending: list[Future[Decision]] = [thread.submit(g.decide) for g in self._groups]
        for t in range(self._length):
            for index, group in enumerate(self._groups):
                self._step(group, pending[index].result(), t, blocks, episodes)
                if t + 1 < self._length:
                    pending[index] = thread.submit(group.decide)

    def _step(
        self,
        group: LaneGroup,
        decision: Decision,
        t: int,
        blocks: _Blocks,
        episodes: list[EpisodeRecord],
    ) -> None:
        columns = group.columns
        result = group.lanes.step(decision.action)
        if not np.isfinite(result.reward).all():
            lane = int(np.flatnonzero(~np.isfinite(result.reward))[0])
            task = self._tasks[int(group.lanes.task[lane])].name
            raise EnvironmentFailure(
                f"task {task} (worker {self._worker}, lane {columns.start + lane}) returned the "
                f"reward {result.reward[lane]}"
            )
        blocks.age[t, columns] = group.age
        blocks.action[t, columns] = decision.action
        blocks.log_probability[t, columns] = decision.log_probability
        if decision.guide is not None:
            blocks.guide[t, columns] = decision.guide
            blocks.decision[t, columns] = decision.decided
        group.policy.observe(result)
        blocks.observation[self._spec.history + t + 1, columns] = result.observation
        blocks.reward[t, columns] = result.reward
        blocks.terminated[t, columns] = result.terminated
        blocks.truncated[t, columns] = result.truncated
        blocks.valid[t, columns] = result.valid
        group.age = np.where(result.started, 0, np.minimum(group.age, 254) + 1).astype(np.uint8)
        group.recurrent = decision.recurrent
        group.stack.push(result.observation, result.started)
        episodes.extend(result.episodes)
        self._faults.extend(result.faults)

    def _new_blocks(self) -> _Blocks:
        steps, lanes = self._length, self._lane_count
        shape, dtype = self._spec.shape, self._spec.dtype
        action = self._tasks[0].action
        discrete = action.kind == "discrete"
        return _Blocks(
            observation=np.empty((self._spec.history + steps + 1, lanes, *shape), dtype),
            age=np.empty((steps + 1, lanes), np.uint8),
            action=np.empty((steps, lanes), np.int64)
            if discrete
            else np.empty((steps, lanes, action.size), np.float32),
            reward=np.full((steps, lanes), np.nan, np.float32),
            terminated=np.zeros((steps, lanes), np.bool_),
            truncated=np.zeros((steps, lanes), np.bool_),
            valid=np.zeros((steps, lanes), np.bool_),
            log_probability=np.full((steps, lanes), np.nan, np.float32),
            guide=np.broadcast_to(self._task, (steps, lanes)).copy(),
            decision=np.zeros((steps, lanes), np.bool_),
            recurrent=np.empty((lanes, self._groups[0].recurrent.shape[1]), np.float32),
        )

    # -- checkpoint ------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything that decides the next unroll, environments included."""
        return {
            "incarnation": self._incarnation,
            "sequence": self._sequence,
            "groups": [
                {
                    "lanes": group.lanes.state(),
                    "policy": group.policy.state(),
                    "stack": group.stack.array.copy(),
                    "age": group.age.copy(),
                    "recurrent": group.recurrent.copy(),
                    "tail": group.tail.copy(),
                }
                for group in self._groups
            ],
        }

    def restore(self, state: State) -> None:
        """Take up `state`; the number of groups and lanes must be as saved."""
        self._incarnation = int(state["incarnation"])
        self._sequence = int(state["sequence"])
        for group, saved in zip(self._groups, state["groups"], strict=True):
            group.lanes.restore(saved["lanes"])
            group.policy.restore(saved["policy"])
            group.stack.array[...] = saved["stack"]
            group.age = np.array(saved["age"])
            group.recurrent = np.array(saved["recurrent"])
            group.tail = np.array(saved["tail"])

    def close(self) -> None:
        """End the policy's thread and free the environments."""
        if self._thread is not None:
            self._thread.shutdown()
        for group in self._groups:
            group.lanes.close()
