"""What a run writes: evaluations, checkpoints, metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from repertory.config.base import NonNegative, Positive, PositiveFloat, Settings

EvaluatedPolicy = Literal["greedy", "sampled", "random"]


class EvaluationConfig(Settings):
    """Evaluation beside training, on workers of its own."""

    every_steps: NonNegative = 0
    """Agent steps between evaluations; 0 for none but the last."""
    episodes: Positive = 5
    """Episodes per task and policy."""
    policies: tuple[EvaluatedPolicy, ...] = ("greedy",)
    """greedy: the likeliest action; sampled: as in training; random: the floor to compare with."""
    interim_episodes: NonNegative = 0
    """Episodes per task and policy of evaluations before the end of training, the first of those
    played at the end; 0 for as many.
    """
    interim_policies: tuple[EvaluatedPolicy, ...] = ()
    """Policies of evaluations before the end of training; none named are all of the last one's."""
    held_out: bool = False
    """Play the run's held-out tasks too, as they are (zero-shot)."""
    lanes: Positive = 16
    seed: int = 12_345
    """Evaluation seeds are its own: the same episodes' starts at every evaluation."""
    at_end: bool = True
    max_steps: Positive = 27_000
    """Agent steps after which an evaluation episode counts as it stands: a greedy policy can loop
    for ever.
    """
    timeout_s: PositiveFloat = 3_600.0
    """An evaluation that takes longer is given up (cluster only)."""
    videos: NonNegative = 0
    """Tasks of which one episode is filmed at each evaluation: as rollout workers play in runs with
    a guide, with whose policy acts; else by the first policy that is no random play.
    """

    def index(self, env_steps: int) -> int:
        """Return how many evaluations were due after so many agent steps; 0 where none is."""
        return env_steps // self.every_steps if self.every_steps else 0

    def due(self, env_steps: int, total_steps: int) -> int:
        """Return how many were due beside training: the one at its end, if any, is not."""
        ended = self.at_end and env_steps >= total_steps
        return 0 if ended else self.index(env_steps)

    @model_validator(mode="after")
    def _played(self) -> EvaluationConfig:
        if not self.policies:
            raise ValueError("evaluation.policies: need at least one, for instance greedy")
        return self


class CheckpointConfig(Settings):
    """Atomic, complete, rotated."""

    every_s: PositiveFloat = 300.0
    """Seconds between checkpoints in the cluster runtime; the local runtime counts updates
    instead.
    """
    every_updates: NonNegative = 0
    """Updates between checkpoints; 0 leaves it to the clock."""
    keep: Positive = 3
    """Newest checkpoints kept."""


class LoggingConfig(Settings):
    """Metrics and where they go; `metrics.jsonl` is always written."""

    every_s: PositiveFloat = 5.0
    """Seconds between rows in the cluster runtime."""
    every_updates: Positive = 20
    """Updates between rows in the local runtime."""
    window: Positive = 100
    """Episodes per task that running means cover."""
    node_metrics: Literal["auto", "on", "off"] = "auto"
    """Processor, memory and network of every node in the run's metrics, by a process of some 60 MB
    on each. auto: on a cluster that the run joins.
    """
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online with a key, offline without."""
    wandb_project: str = "repertory"
    wandb_group: str = ""
    wandb_checkpoints: Literal["none", "last", "all"] = "none"
