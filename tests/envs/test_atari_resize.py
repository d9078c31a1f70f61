"""Resizing what changed against resizing everything."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from envs.atari.resize import AreaResize


@pytest.mark.parametrize("height", [210, 250, 230, 214])
@pytest.mark.parametrize("size", [84, 42, 64, 105, 182, 190, 210, 240])
def test_resizing_the_changed_rows_is_resizing_the_whole_screen(height: int, size: int) -> None:
    generator = np.random.default_rng(height + size)
    screen = np.zeros((height, 160), dtype=np.uint8)
    resize = AreaResize((height, 160), size)
    observation = np.zeros((size, size), dtype=np.uint8)
    for _ in range(40):
        for _ in range(int(generator.integers(4))):
            top, left = int(generator.integers(height)), int(generator.integers(160))
            patch = screen[top : top + int(generator.integers(1, 40)), left : left + 60]
            # What moved away leaves the background behind.
            patch[:] = generator.integers(256, size=patch.shape) * generator.integers(2)
        resize(screen, observation)
        whole = cv2.resize(screen, (size, size), interpolation=cv2.INTER_AREA)
        assert np.array_equal(observation, whole)


def test_what_a_caller_does_to_an_observation_does_not_come_back() -> None:
    screen = np.full((210, 160), 7, dtype=np.uint8)
    resize = AreaResize((210, 160), 84)
    observation = np.zeros((84, 84), dtype=np.uint8)
    resize(screen, observation)
    observation.fill(0)
    resize(screen, observation)
    assert (observation == 7).all()
