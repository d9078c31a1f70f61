"""CPU time per agent step of Meta-World: the package, our fast path, and the physics alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import tyro

from envs.metaworld import catalog
from envs.metaworld.lane import MetaworldLane
from repertory.config import MetaworldConfig


@dataclass(frozen=True)
class Options:
    """What to measure."""

    tasks: tuple[str, ...] = tuple(f"metaworld/{task}" for task in catalog.MT10)
    windows: int = 5
    """Repeats of each measurement, the three in turns; medians are printed."""
    horizon: int = 200
    """Steps of an episode; one window is one episode with its reset."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Medians over windows, in seconds of CPU time per agent step, resets included."""

    task: str
    package_s: float
    fast_s: float
    physics_s: float
    """Five simulation steps and the forward pass after them; no reset, no Python."""
    ratio: float
    """Package over fast in the same window."""


def measure(task: str, *, windows: int = 5, horizon: int = 200, seed: int = 1) -> StepCost:
    """Play episodes of random actions in turns and compare CPU time.

    The fast path is measured as it is in a long run, after episodes with every fixed goal.
    """
    package, fast, bare = (
        MetaworldLane(
            task,
            MetaworldConfig(fast=chosen, horizon=horizon),
            goal_seed=seed,
            generator=np.random.default_rng(seed),
        )
        for chosen in (False, True, True)
    )
    generator = np.random.default_rng(seed)
    for _ in range(200):
        fast.reset()

    def episode(lane: MetaworldLane, actions: np.ndarray) -> float:
        began = time.process_time()
        lane.reset()
        for action in actions:
            lane.step(action)
        return (time.process_time() - began) / len(actions)

    costs = []
    for turn in range(windows + 1):
        actions = generator.uniform(-1, 1, size=(horizon, 4)).astype(np.float32)
        if turn % 2:
            ours = episode(fast, actions)
            theirs = episode(package, actions)
        else:
            theirs = episode(package, actions)
            ours = episode(fast, actions)
        costs.append((theirs, ours, _physics(bare, actions)))
    for lane in (package, fast, bare):
        lane.close()
    # The first is a warm-up.
    kept = costs[1:]
    return StepCost(
        task,
        package_s=statistics.median(cost[0] for cost in kept),
        fast_s=statistics.median(cost[1] for cost in kept),
        physics_s=statistics.median(cost[2] for cost in kept),
        ratio=statistics.median(cost[0] / cost[1] for cost in kept),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per task and the mean."""
    options = tyro.cli(Options, args=argv, prog="repertory bench metaworld")
    for task in options.tasks:
        catalog.package_name(task)
    print("us/step                              package     fast  physics  package / fast")
    costs = []
    for task in options.tasks:
        cost = measure(task, windows=options.windows, horizon=options.horizon)
        costs.append(cost)
        _print(cost.task, cost.package_s, cost.fast_s, cost.physics_s, cost.ratio)
    package_s = statistics.fmean(cost.package_s for cost in costs)
    fast_s = statistics.fmean(cost.fast_s for cost in costs)
    physics_s = statistics.fmean(cost.physics_s for cost in costs)
    _print("mean", package_s, fast_s, physics_s, package_s / fast_s)


def _physics(lane: MetaworldLane, actions: np.ndarray) -> float:
    lane.reset()
    environment = lane.environment
    model, data = environment.model, environment.data
    spent = 0.0
    for action in actions:
        environment.set_xyz_action(action[:3])
        data.ctrl[:] = action[3], -action[3]
        began = time.process_time()
        mujoco.mj_step(model, data, nstep=environment.frame_skip)
        mujoco.mj_forward(model, data)
        spent += time.process_time() - began
    return spent / len(actions)


def _print(name: str, package_s: float, fast_s: float, physics_s: float, ratio: float) -> None:
    print(
        f"{name:34s} {package_s * 1e6:9.0f} {fast_s * 1e6:8.0f} {physics_s * 1e6:8.0f} "
        f"{ratio:15.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
