"""Best Performance Transfer: every so often all candidates are tried out, and the best one acts on.

Axes: L lanes, N of them whose choice is due, J candidates.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32, Int64

from repertory.config import GuideConfig
from repertory.ports import State
from repertory.types import EpisodeRecord, GuidanceCounts, StepResult


class BptChooser:
    """Plays with the winner of the last trials (He et al. 2024, appendix E.5), lane by lane.

    A lane plays `trial_every` episodes with its best candidate, at first its task's own policy;
    then `trial_episodes` with each candidate in turn, which are training episodes like all others;
    then the winner is its best. Successes count first, returns decide among equals, the own policy
    wins remaining ties and then the lowest index.
    """

    def __init__(self, tasks: int, candidates: int, guide: GuideConfig) -> None:
        self._counts = GuidanceCounts.zeros(tasks)
        self._candidates = candidates
        self._every, self._trial = guide.trial_every, guide.trial_episodes
        self._size_lanes(0)

    def _size_lanes(self, lanes: int) -> None:
        self._episode = np.zeros(lanes, np.int64)
        """Episodes of the current round of play and trials."""
        self._best = np.full(lanes, -1, np.int32)
        self._running = np.zeros(lanes, np.float64)
        self._successes = np.zeros((lanes, self._candidates), np.float64)
        self._returns = np.zeros((lanes, self._candidates), np.float64)

    def choose(
        self,
        observation: Float32[np.ndarray, "N D"],
        task: Int32[np.ndarray, " N"],
        lane: Int64[np.ndarray, " N"],
    ) -> Int32[np.ndarray, " N"]:
        """Return the candidate of each lane's episode; it changes only between episodes."""
        del observation
        np.add.at(self._counts.choices, task, 1)
        if int(lane.max()) >= len(self._episode):
            return task.copy()
        own_or_best = np.where(self._best[lane] < 0, task, self._best[lane])
        tried = (self._episode[lane] - self._every) // self._trial
        np.add.at(self._counts.trials, task[tried >= 0], 1)
        return np.where(tried >= 0, tried, own_or_best).astype(np.int32)

    def observe(
        self,
        result: StepResult,
        task: Int32[np.ndarray, " L"],
        guide: Int32[np.ndarray, " L"],
    ) -> None:
        """Add to the running returns, and score the episodes that ended."""
        if len(self._episode) != len(task):
            self._size_lanes(len(task))
        acted = guide >= 0
        self._running += np.where(acted, result.reward, 0.0)
        ended = np.flatnonzero(result.terminated | result.truncated)
        if not ended.size:
            return
        records = _attribute(result, ended, task)
        for lane, record in zip(ended, records, strict=True):
            if acted[lane]:
                self._score(int(lane), int(task[lane]), int(guide[lane]), record)
            self._running[lane] = 0.0

    def _score(self, lane: int, own: int, candidate: int, record: EpisodeRecord | None) -> None:
        if self._episode[lane] >= self._every:
            played = self._running[lane] if record is None else record.raw_return
            self._returns[lane, candidate] += played
            self._successes[lane, candidate] += record is not None and bool(record.success)
        self._episode[lane] += 1
        if self._episode[lane] < self._every + self._candidates * self._trial:
            return
        self._best[lane] = max(
            range(self._candidates),
            key=lambda j: (self._successes[lane, j], self._returns[lane, j], j == own, -j),
        )
        self._episode[lane] = 0
        self._successes[lane] = 0.0
        self._returns[lane] = 0.0

    def counts(self) -> GuidanceCounts | None:
        """Return the choices since the last call, and how many of them tried a candidate out."""
        counts, self._counts = self._counts, GuidanceCounts.zeros(len(self._counts.choices))
        return counts

    def state(self) -> State:
        """Return every lane's round, scores and best candidate."""
        return {
            "episode": self._episode.copy(),
            "best": self._best.copy(),
            "running": self._running.copy(),
            "successes": self._successes.copy(),
            "returns": self._returns.copy(),
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()`."""
        self._episode = np.array(state["episode"], np.int64)
        self._best = np.array(state["best"], np.int32)
        self._running = np.array(state["running"], np.float64)
        self._successes = np.array(state["successes"], np.float64)
        self._returns = np.array(state["returns"], np.float64)


def _attribute(
    result: StepResult, ended: np.ndarray, task: np.ndarray
) -> list[EpisodeRecord | None]:
    """Return the record of each lane that ended; records come in the order of the lanes.

    None for all where they do not pair up: then the rewards that were shown must do.
    """
    records = list(result.episodes)
    if [record.task for record in records] == [int(task[lane]) for lane in ended]:
        return list(records)
    return [None] * len(ended)
