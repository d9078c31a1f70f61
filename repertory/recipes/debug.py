"""Recipes that test the system rather than an agent."""

from __future__ import annotations

from repertory.config import (
    ActorConfig,
    CountingConfig,
    EvaluationConfig,
    LearnerConfig,
    LoggingConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    VTraceConfig,
)
from repertory.recipes.recipe import Recipe

_DEBUG_COUNTING = RunConfig(
    recipe="debug-counting",
    tasks=("counting/0", "counting/1", "counting/2"),
    held_out=(),
    total_steps=12_000,
    runtime="local",
    environment=CountingConfig(),
    network=NetworkConfig(torso="mlp", hidden=32),
    algorithm=VTraceConfig(),
    optimiser=OptimiserConfig(kind="adam", learning_rate=1e-3, epsilon=1e-5),
    learner=LearnerConfig(batch_size=6, unroll_length=10, device="cpu", compile="off"),
    actors=ActorConfig(count=2, lanes=6),
    evaluation=EvaluationConfig(every_steps=0, episodes=2, lanes=3, at_end=True),
    logging=LoggingConfig(wandb="disabled"),
)

RECIPES = (
    Recipe("debug-counting", "the counting environment: data flow in seconds", _DEBUG_COUNTING),
)
