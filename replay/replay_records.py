"""What is counted of a replay: steps, guides, successes, and how old what is replayed is.

Axes: M tasks, C candidates that may act for a task (M, or more where experts are among them).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64

from repertory.ports import State
from repertory.types import GuidanceCounts, TaskSpec, Unroll

SUCCESS_EPISODES = 100
"""A task's success rate is over so many of its latest episodes."""


class ReplayRecords:
    """Counters per task; those of lag, age and guidance are drained by each report."""

    def __init__(self, tasks: Sequence[TaskSpec]) -> None:
        count = len(tasks)
        self._names = [task.name for task in tasks]
        self.steps: Int64[np.ndarray, " M"] = np.zeros(count, np.int64)
        """Valid steps received of each task."""
        self._success: list[deque[bool]] = [deque(maxlen=SUCCESS_EPISODES) for _ in tasks]
        self._guides: Int64[np.ndarray, "M C"] = np.zeros((count, count), np.int64)
        self._acted = np.zeros(count, np.int64)
        self._guided = np.zeros(count, np.int64)
        self._guidance_seen = False
        self._choices = GuidanceCounts.zeros(count)
        self._trials_seen = False
        self._sampled = 0
        self._lag_sum = np.zeros(count, np.int64)
        self._lag_max = 0
        self._age_sum = np.zeros(count, np.int64)

    def note_arrival(self, unroll: Unroll) -> Int64[np.ndarray, " M"]:
        """Count an unroll and return its valid steps of each task."""
        count = len(self._names)
        task = np.broadcast_to(unroll.task, unroll.valid.shape)[unroll.valid]
        guide = unroll.guide[unroll.valid].astype(np.int64)
        arrived = np.bincount(task, minlength=count)
        self.steps += arrived
        self._acted += arrived
        other = guide != task
        self._guided += np.bincount(task[other], minlength=count)
        self._guidance_seen |= bool(other.any() or unroll.decision.any())
        candidates = max(self._guides.shape[1], int(guide.max(initial=0)) + 1)
        if candidates > self._guides.shape[1]:
            wider = np.zeros((count, candidates), np.int64)
            wider[:, : self._guides.shape[1]] = self._guides
            self._guides = wider
        pairs = np.bincount(task * candidates + guide, minlength=count * candidates)
        self._guides += pairs.reshape(count, candidates)
        if unroll.guidance is not None:
            self._choices += unroll.guidance
            self._trials_seen |= bool(unroll.guidance.trials.any())
        for episode in unroll.episodes:
            if episode.success is not None:
                self._success[episode.task].append(episode.success)
        return arrived

    def note_sampled(
        self, lag: Int64[np.ndarray, "M share"], age: Int64[np.ndarray, "M share"]
    ) -> None:
        """Count how old the rows of a batch are, in versions and in steps of their task."""
        self._sampled += lag.shape[1]
        self._lag_sum += lag.sum(axis=1)
        self._lag_max = max(self._lag_max, int(lag.max()))
        self._age_sum += age.sum(axis=1)

    def guide_counts(self) -> Int64[np.ndarray, "M C"]:
        """Return the valid steps of task i in which j acted, since the last call."""
        counts, self._guides = self._guides, np.zeros_like(self._guides)
        return counts

    def success_rate(self) -> Float32[np.ndarray, " M"]:
        """Return the share of each task's latest episodes that succeeded; NaN while unknown."""
        rates = [sum(own) / len(own) if own else np.nan for own in self._success]
        return np.array(rates, np.float32)

    def drained(self) -> dict[str, float]:
        """Return the metrics, and begin lag, age and guidance anew."""
        row: dict[str, float] = {}
        for task, name in enumerate(self._names):
            row[f"task/{name}/steps"] = float(self.steps[task])
            if self._sampled:
                row[f"task/{name}/lag"] = float(self._lag_sum[task]) / self._sampled
                row[f"task/{name}/replay_age"] = float(self._age_sum[task]) / self._sampled
        if self._sampled:
            row["lag/mean"] = float(self._lag_sum.sum()) / (self._sampled * len(self._names))
            row["lag/max"] = float(self._lag_max)
        row |= self._guidance()
        self._choices = GuidanceCounts.zeros(len(self._names))
        for counter in (self._acted, self._guided, self._lag_sum, self._age_sum):
            counter[:] = 0
        self._sampled = self._lag_max = 0
        return row

    def _guidance(self) -> dict[str, float]:
        """Return shares per task, and in all; no entry where nothing was counted."""
        counts = self._choices
        shares: list[tuple[str, str, np.ndarray, np.ndarray]] = []
        if self._guidance_seen:
            shares.append(("guided", "actor/guided", self._guided, self._acted))
        judged = np.where(counts.candidates > 0, counts.choices, 0)
        filtered = counts.candidates - counts.passed
        shares.append(("guide_filtered", "actor/guide_filtered", filtered, counts.candidates))
        shares.append(("guide_fallback", "actor/guide_fallback", counts.fallbacks, judged))
        if self._trials_seen:
            shares.append(("guide_trial", "actor/guide_trial", counts.trials, counts.choices))
        row: dict[str, float] = {}
        for own, overall, part, whole in shares:
            for task in np.flatnonzero(whole):
                row[f"task/{self._names[task]}/{own}"] = float(part[task] / whole[task])
            if whole.any():
                row[overall] = float(part.sum() / whole.sum())
        return row

    def state(self) -> State:
        """Return the steps and successes of each task, by name, and the guides not yet reported."""
        return {
            name: {
                "steps": int(self.steps[task]),
                "success": list(self._success[task]),
                "guides": self._guides[task].copy(),
            }
            for task, name in enumerate(self._names)
        }

    def restore(self, state: State) -> None:
        """Take up the tasks that were saved; guides only where their numbers mean the same."""
        saved = [own["guides"] for own in state.values() if "guides" in own]
        if len(saved) == len(state) and list(state) == self._names:
            self._guides = np.array(saved, np.int64)
        for task, name in enumerate(self._names):
            if name in state:
                self.steps[task] = int(state[name]["steps"])
                self._success[task] = deque(state[name]["success"], maxlen=SUCCESS_EPISODES)
