"""Environment protocols: everything here changes scores, so all of it is stamped on results."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from repertory.config.base import NonNegative, NonNegativeFloat, Positive, Probability, Settings


class AtariConfig(Settings):
    """The Atari protocol. Everything here changes scores, so all of it is stamped on every
    result.
    """

    suite: Literal["atari"] = "atari"
    frame_skip: Positive = 4
    """Emulated frames per agent step; the observation is the maximum of the last two."""
    frame_size: Annotated[int, Field(ge=36)] = 84
    """Side of the square grey observation, resized by area."""
    stack: Annotated[int, Field(ge=1, le=16)] = 4
    """Observations that make one network input."""
    repeat_action_probability: Probability = 0.25
    """Sticky actions: chance per emulated frame that the action before is repeated (Machado et al.
    2018).
    """
    noop_max: NonNegative = 30
    """At a reset, 1 to this many no-ops are played; 0 plays none."""
    fire_reset: bool = False
    """Press FIRE after a reset and after a lost life, in games that have it (OpenAI Baselines)."""
    life_loss_ends: bool = False
    """A lost life ends the return for the learner; the game itself goes on."""
    clip_rewards: bool = True
    """Show the learner sign(reward). Reported returns are always raw."""
    full_action_space: bool | Literal["auto"] = "auto"
    """18 actions; `auto` takes the game's own actions when the run has one game, else 18."""
    max_frames: Positive = 108_000
    """Emulated frames after which an episode is truncated (30 minutes of play)."""


class MetaworldConfig(Settings):
    """The Meta-World protocol (package metaworld 3: the v3 environments of 50 tasks)."""

    suite: Literal["metaworld"] = "metaworld"
    reward_version: Literal["v1", "v2"] = "v2"
    """v2: at most 10 per step; v1: up to some 1,200. Scores never compare across the two."""
    horizon: Annotated[int, Field(ge=1, le=500)] = 500
    """Agent steps after which an episode is truncated (CTPG: 200)."""
    goals: Literal["fixed", "fresh"] = "fixed"
    """fixed: the benchmark's 50 per task, one drawn per episode; fresh: a new one every episode."""
    success_ends: bool = False
    """An episode ends at its first success; off, it is played to the horizon."""
    fast: bool = True
    """Step through the fast path, equal to the package bit for bit; off: the package's own step."""


class HalfCheetahConfig(Settings):
    """Gymnasium's HalfCheetah-v5 with gravities or body parts changed per task."""

    suite: Literal["halfcheetah"] = "halfcheetah"
    horizon: Positive = 1000
    """Agent steps after which an episode is truncated; it never ends otherwise."""
    body_scaling: Literal["geometry", "literal"] = "geometry"
    """geometry: geom sizes scaled before compiling, total mass kept (gym-extensions, CTPG's code);
    literal: radius and mass scaled (CTPG's text).
    """


class PointMassConfig(Settings):
    """Points in a plane with shared dynamics, where one task's policy solves part of another's:
    guidance shows in seconds.
    """

    suite: Literal["pointmass"] = "pointmass"
    horizon: Positive = 50
    noise: NonNegativeFloat = 0.0
    """Standard deviation of the noise on each step's displacement."""


class CountingConfig(Settings):
    """The environment that tests data flow and scaling: its observation is (task, episode,
    step).
    """

    suite: Literal["counting"] = "counting"
    episode_length: Positive = 7
    """Steps of an episode of task 0; task i has i more."""
    truncate_every: NonNegative = 3
    """Every n-th episode ends by truncation; 0 never."""
    step_seconds: NonNegativeFloat = 0.0
    """Each lane's step sleeps so long, to stand for an environment of known cost."""
    actions: Positive = 4
    """Number of discrete actions, or sizes of a continuous one."""
    continuous: bool = False
    """Actions from the box [-1, 1]^actions."""
    fail_task: str = ""
    """This task fails from the worker's step `fail_step` on, for tests of failures."""
    fail_step: NonNegative = 0
    fail_times: NonNegative = 0
    """So often, one step after another; 0 always."""
    fail_how: Literal[
        "raise",
        "reset",
        "hang",
        "hang_holding_gil",
        "nan_reward",
        "nan_observation",
        "wrong_shape",
        "wrong_dtype",
    ] = "raise"
    """raise: a step raises; reset: starting anew raises too; hang: a step never returns, with
    hang_holding_gil as in C code that keeps the interpreter's lock, so that no thread of the worker
    runs on; wrong_shape, wrong_dtype: an observation is not of the form of the task's.
    """


EnvironmentConfig = Annotated[
    AtariConfig | MetaworldConfig | HalfCheetahConfig | PointMassConfig | CountingConfig,
    Field(discriminator="suite"),
]
