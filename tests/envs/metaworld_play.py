"""Meta-World lanes and the package's own environments, made and played for the tests."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import metaworld
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

from envs import registry
from envs.metaworld.lanes import MetaworldLanes
from repertory.config import MetaworldConfig


def make(
    names: Sequence[str],
    settings: MetaworldConfig | None = None,
    *,
    lanes: Sequence[int] | None = None,
    seed: int = 3,
    path: tuple[str | int, ...] = ("actor", 0),
) -> MetaworldLanes:
    """Make one lane per task, or those of `lanes`."""
    settings = settings or MetaworldConfig()
    specs = registry.task_specs([f"metaworld/{name}" for name in names], settings, 0.99)
    made = registry.make_lanes(
        settings, specs, range(len(names)) if lanes is None else lanes, seed=seed, path=path
    )
    assert isinstance(made, MetaworldLanes)
    return made


def random_actions(steps: int, lanes: int, *, seed: int = 0) -> np.ndarray:
    """Draw float32 [steps, lanes, 4], a little beyond [-1, 1]."""
    drawn = np.random.default_rng(seed).uniform(-1.2, 1.2, size=(steps, lanes, 4))
    return drawn.astype(np.float32)


def play(lanes: MetaworldLanes, actions: np.ndarray) -> list[tuple[Any, ...]]:
    """Step through all actions and return every number as bytes, and the episodes."""
    shown = []
    for action in actions:
        result = lanes.step(action)
        arrays = (
            result.observation,
            result.reward,
            result.terminated,
            result.truncated,
            result.valid,
            result.started,
        )
        shown.append((*(array.tobytes() for array in arrays), result.episodes))
    return shown


def environment(chosen: Any, name: str, goal: np.ndarray, reward_version: str) -> Any:
    """Make an environment of the package's class or a subclass, its goal set."""
    made = chosen(reward_function_version=reward_version)
    data = {
        "env_cls": ALL_V3_ENVIRONMENTS[f"{name}-v3"],
        "rand_vec": goal,
        "partially_observable": False,
    }
    made.set_task(metaworld.Task(f"{name}-v3", pickle.dumps(data)))
    return made


class Scripted:
    """The package's scripted policy of a task, its actions float32 [4] within [-1, 1]."""

    def __init__(self, name: str) -> None:
        self._policy = ENV_POLICY_MAP[f"{name}-v3"]()

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        action = self._policy.get_action(observation.astype(np.float64))
        return np.clip(action, -1.0, 1.0).astype(np.float32)


def bits(step: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a step's observation, reward, flags and info so that equal means equal to the bit."""
    observation, reward, terminated, truncated, info = step
    return (
        observation.dtype.str,
        observation.tobytes(),
        np.float64(reward).tobytes(),
        terminated,
        truncated,
        {key: np.float64(value).tobytes() for key, value in info.items()},
    )


def side_by_side(
    name: str, *, goals: Sequence[np.ndarray], reward_version: str, fresh: bool, horizon: int
) -> Iterator[tuple[Any, Any]]:
    """Yield what the package and the fast path return, for 2 episodes of each of the goals.

    One has random actions, one the scripted policy's. Each stops at the first difference.
    """
    from envs.metaworld.fast import fast_class

    original = ALL_V3_ENVIRONMENTS[f"{name}-v3"]
    pair = [
        environment(chosen, name, goals[0], reward_version)
        for chosen in (original, fast_class(f"{name}-v3"))
    ]
    if fresh:
        for one in pair:
            one._freeze_rand_vec = False
            one.seeded_rand_vec = True
            one.np_random = np.random.default_rng(7)
    generator = np.random.default_rng(1)
    policy = Scripted(name)
    for episode in range(2 * len(goals)):
        # In an order in which goals follow themselves and others.
        goal = goals[(episode * episode) % len(goals)]
        for one in pair:
            if not fresh:
                one._last_rand_vec = goal.copy()
        observation, faster = (one.reset()[0] for one in pair)
        yield observation.tobytes(), faster.tobytes()
        for _ in range(horizon):
            if episode % 2:
                action = policy(observation)
            else:
                action = generator.uniform(-1, 1, size=4).astype(np.float32)
            package, ours = (one.step(action) for one in pair)
            yield bits(package), bits(ours)
            observation = package[0]
