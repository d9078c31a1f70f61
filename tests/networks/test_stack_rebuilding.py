"""Rebuilt stacks against a queue of the newest frames, pushed step by step."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch

from repertory.networks.stacking import FrameStacker, rebuild_frames, rebuild_vectors

SIDE = 5


def episodes(
    random: np.random.Generator, steps: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play columns with random starts; return frames, starts and ages, [steps, columns, ...]."""
    frames = random.integers(0, 256, (steps, columns, SIDE, SIDE), dtype=np.uint8)
    started = random.random((steps, columns)) < 0.25
    started[0] = True
    age = np.zeros((steps, columns), np.uint8)
    for step in range(1, steps):
        age[step] = np.where(started[step], 0, age[step - 1] + 1)
    return frames, started, age


def queued(frames: np.ndarray, started: np.ndarray, depth: int) -> np.ndarray:
    """Return the stack before every step, oldest first in the last axis, from a plain queue."""
    stacks = np.zeros((*frames.shape, depth), np.uint8)
    for column in range(frames.shape[1]):
        queue: deque[np.ndarray] = deque(maxlen=depth)
        for step in range(frames.shape[0]):
            if started[step, column]:
                queue.extend([frames[step, column]] * depth)
            else:
                queue.append(frames[step, column])
            stacks[step, column] = np.stack(list(queue), -1)
    return stacks


@pytest.mark.parametrize("depth", [1, 2, 4, 7])
def test_stacks_equal_those_of_a_queue_at_every_step_of_an_unroll(depth: int) -> None:
    frames, started, age = episodes(np.random.default_rng(depth), 60, 3)
    stacks = queued(frames, started, depth)
    history, first, length = depth - 1, 30, 12
    window = torch.from_numpy(frames[first - history : first + length + 1])
    ages = torch.from_numpy(age[first : first + length + 1])
    rebuilt = rebuild_frames(window, ages).numpy()
    expected = stacks[first : first + length + 1].reshape(-1, SIDE, SIDE, depth)
    np.testing.assert_array_equal(rebuilt, expected)
    np.testing.assert_array_equal(rebuild_vectors(window, ages).flatten(0, 1), expected)


@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("depth", [1, 4])
def test_the_stacker_of_the_learner_equals_plain_rebuilding_batch_after_batch(
    depth: int, number_format: torch.dtype
) -> None:
    stacker = FrameStacker(number_format)
    for seed, (length, columns) in enumerate([(5, 3), (5, 3), (7, 2)]):
        frames, _, age = episodes(np.random.default_rng(seed), 20, columns)
        window = torch.from_numpy(frames[10 - depth + 1 : 10 + length + 1])
        ages = torch.from_numpy(age[10 : 10 + length + 1])
        stacked = stacker(window, ages)
        assert stacked.dtype == number_format
        assert torch.equal(stacked, rebuild_frames(window, ages).to(number_format))


def test_history_from_before_an_episode_is_never_looked_at() -> None:
    frames, started, age = episodes(np.random.default_rng(9), 20, 2)
    started[10] = True
    age[10] = 0
    for step in range(11, 20):
        age[step] = np.where(started[step], 0, age[step - 1] + 1)
    window = torch.from_numpy(frames[7:16].copy())
    ages = torch.from_numpy(age[10:16])
    before = rebuild_frames(window, ages)
    window[:3] = 255
    assert torch.equal(rebuild_frames(window, ages), before)


def test_ages_capped_at_255_still_give_full_stacks() -> None:
    frames = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, SIDE, SIDE)
    ages = torch.full((5, 1), 255, dtype=torch.uint8)
    rebuilt = rebuild_frames(frames.contiguous(), ages)
    assert rebuilt[:, 0, 0].tolist() == [[t, t + 1, t + 2, t + 3] for t in range(5)]
