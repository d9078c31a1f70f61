"""Small off-policy runs that the runtime tests share, and a learner that checks what it is given.

Axes: N rows of a batch, K steps of W windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from small_runs import COUNTING_TASKS, counting_config

from repertory.config import (
    ActorConfig,
    CountingConfig,
    GuideConfig,
    LearnerConfig,
    NetworkConfig,
    OptimiserConfig,
    PointMassConfig,
    ReplayConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.ports import Batch, Learner
from repertory.types import ReplayBatch, Windows

STEP = 4
"""Steps that a guide's choice lasts in these runs."""

NETWORK = NetworkConfig(torso="mlp", hidden=16, layers=1, conditioning="one_hot")
ADAM = OptimiserConfig(kind="adam", learning_rate=1e-3, anneal="none", epsilon=1e-8, clip_norm=10.0)


def counting_control_config(**changes: Any) -> RunConfig:
    """Three counting tasks with continuous actions and guidance, learned from replay."""
    guide = GuideConfig(kind="ctpg", step=STEP, filter_from=10, block="none")
    settings: dict[str, Any] = {
        "recipe": "test-counting-control",
        "environment": CountingConfig(continuous=True, actions=2),
        "network": NETWORK,
        "algorithm": SacConfig(exploration_steps=20, exploration="policy", guide=guide),
        "optimiser": ADAM,
        "learner": LearnerConfig(batch_size=12, unroll_length=5, compile="off", precision="fp32"),
        "replay": ReplayConfig(capacity=600, samples_per_insert=0.5, slack=2.0),
    }
    return counting_config(**(settings | changes))


def pointmass_config(algorithm: SacConfig | Td3Config, *, saved: bool, **changes: Any) -> RunConfig:
    """Three point masses with short episodes, one worker with a lane for each."""
    settings: dict[str, Any] = {
        "recipe": "test-pointmass",
        "tasks": ("pointmass/mt3",),
        "environment": PointMassConfig(horizon=9, noise=0.01),
        "network": NETWORK,
        "algorithm": algorithm,
        "optimiser": ADAM,
        "actors": ActorConfig(count=1, lanes=6, precision="fp32"),
        "learner": LearnerConfig(batch_size=24, unroll_length=5, compile="off", precision="fp32"),
        "replay": ReplayConfig(capacity=300, samples_per_insert=1.0, saved=saved),
        "total_steps": 100_000,
    }
    return counting_config(**(settings | changes))


class CheckedLearner:
    """Stands before a learner's `update` and checks every row and window of `counting` batches.

    Nothing of another lane, episode or step may stand in one, whatever way it came.
    """

    def __init__(self, learner: Learner) -> None:
        self.rows = self.windows = self.terminations = self.truncations = self.lent = 0
        self.cut = 0
        """Windows that are short without an end: where a stream of unrolls broke."""
        self.actions: dict[tuple[int, ...], set[tuple[float, ...]]] = {}
        """Actions replayed at each (task, episode, step)."""
        self._learn, self._measure = learner.update, learner.metrics
        learner.update = self._update  # type: ignore[method-assign]
        learner.metrics = self._metrics  # type: ignore[method-assign]

    def _update(self, batch: Batch, progress: float) -> None:
        assert isinstance(batch, ReplayBatch)
        self._check_rows(batch)
        if batch.windows is not None:
            self._check_windows(batch.windows)
        self._learn(batch, progress)

    def _metrics(self) -> dict[str, float]:
        return self._measure() | {
            "test/rows_checked": float(self.rows),
            "test/windows_checked": float(self.windows),
            "test/windows_cut": float(self.cut),
        }

    def _check_rows(self, batch: ReplayBatch) -> None:
        count = len(COUNTING_TASKS)
        assert batch.task.tolist() == sorted(list(range(count)) * (len(batch.task) // count))
        task, episode, step = check_steps(
            batch.observation,
            batch.next_observation,
            batch.reward,
            batch.terminated,
            batch.truncated,
        )
        np.testing.assert_array_equal(task, batch.task)
        self.rows += len(task)
        self.terminations += int(batch.terminated.sum())
        self.truncations += int(batch.truncated.sum())
        for key, action in zip(
            zip(task.tolist(), episode.tolist(), step.tolist(), strict=True),
            batch.action.tolist(),
            strict=True,
        ):
            self.actions.setdefault(key, set()).add(tuple(action))

    def _check_windows(self, windows: Windows) -> None:
        self.windows += len(windows.task)
        self.lent += int((windows.guide != windows.task).sum())
        for w, length in enumerate(windows.length.tolist()):
            assert 1 <= length <= STEP
            last = np.arange(length) == length - 1
            task, episode, step = check_steps(
                windows.observation[:length, w],
                windows.observation[1 : length + 1, w],
                windows.reward[:length, w],
                last & windows.terminated[w],
                last & windows.truncated[w],
            )
            assert (task == windows.task[w]).all()
            assert (episode == episode[0]).all()
            # A choice falls on an episode's first step and every so many steps after it.
            assert step.tolist() == list(range(step[0], step[0] + length))
            assert step[0] % STEP == 0
            self.cut += length < STEP and not (windows.terminated[w] or windows.truncated[w])
            assert 0 <= windows.guide[w] < len(COUNTING_TASKS)
            for k in range(length):
                key = (int(task[k]), int(episode[k]), int(step[k]))
                self.actions.setdefault(key, set()).add(tuple(windows.action[k, w].tolist()))


def check_steps(
    observation: np.ndarray,
    following: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check N steps of the counting environment each for itself; return task, episode and step."""
    task, episode, step = observation.astype(int).T
    np.testing.assert_array_equal(following, np.stack([task, episode, step + 1], -1))
    np.testing.assert_array_equal(reward, step)
    end = step + 1 == 7 + task
    cut = end & ((episode + 1) % 3 == 0)
    np.testing.assert_array_equal(truncated, cut)
    np.testing.assert_array_equal(terminated, end & ~cut)
    assert (step + 1 <= 7 + task).all()
    return task, episode, step
