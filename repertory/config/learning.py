"""How batches become weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from repertory.config.base import (
    MemoryFormat,
    NonNegative,
    Positive,
    PositiveFloat,
    Precision,
    Settings,
)


class OptimiserConfig(Settings):
    """Optimiser and its schedule."""

    kind: Literal["rmsprop", "rmsprop_tensorflow", "adam"] = "rmsprop_tensorflow"
    """rmsprop divides by sqrt(ms) + epsilon, rmsprop_tensorflow by sqrt(ms + epsilon)."""
    learning_rate: PositiveFloat = 6e-4
    anneal: Literal["linear", "none"] = "linear"
    """linear: to zero at the end of the budget."""
    epsilon: PositiveFloat = 0.01
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    clip_norm: PositiveFloat = 40.0
    """Global gradient norm is clipped to this."""


class LearnerConfig(Settings):
    """How batches become weights."""

    batch_size: Positive = 32
    """Per update, equal shares of the tasks: unrolls (V-trace, PPO), replayed steps (SAC, TD3)."""
    unroll_length: Positive = 20
    """T, steps per unroll."""
    count: Positive = 1
    """Learners, each with its own workers and an equal part of batch and replay; gradients are
    added up, so that N learners take the updates of one (cluster; vtrace, sac and td3 whose
    gradients are joined by mean).
    """
    exchange_timeout_s: PositiveFloat = 60.0
    """Several learners: one that does not take part in a sum for so long is lost."""
    publish_every: Positive = 1
    """Updates between publications of the weights. On Ray each leaves some 0.3 KiB in the learner's
    process: above ten a second it is worth a higher number.
    """
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"
    """bf16: convolutions and matrix products in bfloat16; losses and log-probabilities are always
    float32. `auto` takes bf16 for convolutions where the processor is faster at it, and fp32 for
    SAC and TD3. In bf16, 1.6 times as fast on one CPU, SAC's Q came out 0.05 % and its actor's
    gradient 1.5 % off early in training; small tasks were learned as well as in fp32, and long
    runs were not compared.
    """
    memory_format: MemoryFormat = "auto"
    """Layout of images in convolutions; `auto` is channels_last, the faster one where measured."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the update (needs a C++ compiler). `auto` does not: on CPUs it was measured to gain
    nothing, and on CUDA it was not measured.
    """
    threads: Positive = 1
    """Threads of the matrix library in the learner's process."""
    max_restarts: NonNegative = 3
    """So often a learner (or a replay of its own process) that died or hangs is started again from
    the newest checkpoint before a newer one is written; then the run ends (cluster only).
    """
    nonfinite_limit: Positive = 10
    """So many updates in a row with a loss or gradient that is not finite end the run; each is
    skipped.
    """
