"""The fifty goals that the benchmark fixes for a task, without running the benchmark's maker."""

from __future__ import annotations

import functools

import numpy as np

from envs.metaworld.fast import fast_class

GOALS = 50


@functools.lru_cache(maxsize=256)
def fixed_goals(package_name: str, seed: int) -> tuple[np.ndarray, ...]:
    """Return the goals of metaworld.MT1(package_name, seed), in its order.

    A goal is the vector that the task's reset places its objects and target by. The benchmark
    draws them by resetting an environment 50 times; so does this, with the fast one and without
    numpy's global random state.

    Args:
        package_name: for instance pick-place-v3.
        seed: of the goals; only its lowest 32 bits count.
    """
    environment = fast_class(package_name)()
    environment._freeze_rand_vec = False
    environment._set_task_called = True
    environment.seeded_rand_vec = True
    # The generator that numpy's global functions draw from, to the bit.
    environment.np_random = np.random.RandomState(seed % 2**32)
    goals = []
    for _ in range(GOALS):
        environment.reset()
        goal = np.array(environment._last_rand_vec)
        goal.flags.writeable = False
        goals.append(goal)
    environment.close()
    return tuple(goals)
