"""CPU time per agent step of our lanes and of ale-py's native vector environment, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tyro
from ale_py import AtariVectorEnv

from envs import registry
from envs.atari.catalog import check_game
from repertory.config import AtariConfig


@dataclass(frozen=True)
class Options:
    """What to measure."""

    games: tuple[str, ...] = ("breakout", "space_invaders", "bank_heist", "asteroids")
    lanes: int = 32
    windows: int = 9
    """Repeats of each measurement, the two in turns; medians are printed."""
    steps: int = 40
    """Steps of all lanes in one window."""


@dataclass(frozen=True, slots=True)
class LaneCost:
    """Medians over windows, in seconds of CPU time per agent step of one lane."""

    game: str
    ours_s: float
    native_s: float
    ratio: float
    """Native over ours in the same window: above 1, ours is the cheaper one."""


def measure(
    game: str, *, lanes: int = 32, windows: int = 9, steps: int = 40, seed: int = 1
) -> LaneCost:
    """Play random actions in turns, `steps` vector steps per window, and compare CPU time.

    Both run the same protocol on the same default variant; the native one with a single thread,
    stacking its frames as it always does.
    """
    settings = AtariConfig()
    specs = registry.task_specs([f"atari/{game}/m0d0"], settings, 0.99)
    ours = registry.make_lanes(settings, specs, [0] * lanes, seed=seed, path=("benchmark",))
    native = AtariVectorEnv(
        game,
        lanes,
        num_threads=1,
        repeat_action_probability=settings.repeat_action_probability,
        noop_max=settings.noop_max,
        use_fire_reset=settings.fire_reset,
        reward_clipping=settings.clip_rewards,
        max_num_frames_per_episode=settings.max_frames,
    )
    ours.reset()
    native.reset(seed=seed)
    generator = np.random.default_rng(seed)
    size = specs[0].action.size

    def window(step: Callable[[np.ndarray], object]) -> float:
        actions = generator.integers(size, size=(steps, lanes))
        began = time.process_time()
        for action in actions:
            step(action)
        return (time.process_time() - began) / (steps * lanes)

    window(ours.step)
    window(native.step)
    pairs = []
    for turn in range(windows):
        if turn % 2:
            cost = window(ours.step)
            pairs.append((cost, window(native.step)))
        else:
            cost = window(native.step)
            pairs.append((window(ours.step), cost))
    ours.close()
    native.close()
    return LaneCost(
        game,
        ours_s=statistics.median(ours_s for ours_s, _ in pairs),
        native_s=statistics.median(native_s for _, native_s in pairs),
        ratio=statistics.median(native_s / ours_s for ours_s, native_s in pairs),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per game."""
    options = tyro.cli(Options, args=argv, prog="repertory bench atari_lanes")
    for game in options.games:
        check_game(game)
    print("game             ours, us/step   native, us/step   native / ours")
    for game in options.games:
        cost = measure(game, lanes=options.lanes, windows=options.windows, steps=options.steps)
        print(
            f"{game:16s} {cost.ours_s * 1e6:13.0f} {cost.native_s * 1e6:17.0f} {cost.ratio:15.3f}"
        )


if __name__ == "__main__":
    main()
