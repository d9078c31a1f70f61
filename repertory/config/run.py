"""The whole of a run in one value."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from repertory.config.algorithms import (
    AlgorithmConfig,
    PpoConfig,
    SacConfig,
    Td3Config,
    VTraceConfig,
)
from repertory.config.base import NonNegative, Positive, Settings
from repertory.config.collecting import ActorConfig, QueueConfig, ReplayConfig
from repertory.config.environments import AtariConfig, EnvironmentConfig
from repertory.config.finetuning import InitialConfig
from repertory.config.gradients import GradientConfig
from repertory.config.learning import LearnerConfig, OptimiserConfig
from repertory.config.masks import MaskConfig
from repertory.config.networks import NetworkConfig
from repertory.config.records import CheckpointConfig, EvaluationConfig, LoggingConfig


def _unfit(algorithm: AlgorithmConfig, network: NetworkConfig) -> str | None:
    """Return what is wrong between algorithm and network, in one sentence."""
    kind = algorithm.kind
    match algorithm:
        case SacConfig() | Td3Config():
            if network.torso != "mlp":
                return f"algorithm.kind {kind} needs network.torso mlp, not {network.torso}"
            if network.lstm or network.popart.enabled:
                return f"algorithm.kind {kind} has neither LSTM nor PopArt: leave both off"
            if network.conditioning == "embedding":
                return f"algorithm.kind {kind} takes network.conditioning none or one_hot"
            if isinstance(algorithm, Td3Config) and algorithm.rescale != "none":
                return (
                    f"algorithm.rescale {algorithm.rescale} weighs tasks by their temperatures, "
                    "which td3 has not: use none"
                )
        case _:
            if network.heads != "shared":
                return (
                    f"network.heads {network.heads} is for algorithm.kind sac and td3, not {kind}"
                )
    return None


def _guide_unfit(algorithm: AlgorithmConfig, environment: EnvironmentConfig) -> str | None:
    """Return what is wrong between the guide and what it guides, in one sentence."""
    if not isinstance(algorithm, SacConfig | Td3Config):
        return None
    if algorithm.guide.kind == "none":
        if algorithm.guide.experts:
            return (
                "algorithm.guide.experts are candidates of a guide, and algorithm.guide.kind is "
                "none: use ctpg, qmp or bpt"
            )
        return None
    horizon = getattr(environment, "horizon", None)
    if horizon is not None and algorithm.guide.step > horizon:
        return (
            f"algorithm.guide.step {algorithm.guide.step} is longer than an episode "
            f"(environment.horizon {horizon})"
        )
    by_temperature = algorithm.guide.kind == "ctpg" and algorithm.guide.block == "temperature"
    if algorithm.kind == "td3" and by_temperature:
        return (
            "algorithm.guide.block temperature needs temperatures, which td3 has not: "
            "use success or none"
        )
    return None


def _gradients_unfit(
    gradients: GradientConfig, algorithm: AlgorithmConfig, learner: LearnerConfig
) -> str | None:
    """Return what is wrong with how gradients are joined, in one sentence."""
    if gradients.method == "mean":
        return None
    if isinstance(algorithm, PpoConfig):
        return (
            f"gradients.method {gradients.method} is for algorithm.kind vtrace, sac and td3, "
            "not ppo: use mean"
        )
    if gradients.method == "harmony" and learner.compile == "on":
        return (
            "gradients.method harmony computes each task's rows by a network of its own, which is "
            "not compiled: use learner.compile auto or off"
        )
    if learner.compile == "on":
        return (
            f"gradients.method {gradients.method} goes through one graph per task, which is not "
            "compiled: use learner.compile auto or off"
        )
    return None


def _initial_unfit(initial: InitialConfig, gradients: GradientConfig) -> str | None:
    """Return what is wrong with how a run begins, in one sentence."""
    if not initial.freezes:
        return None
    if gradients.method != "mean":
        return (
            f"a frozen torso leaves gradients.method {gradients.method} no shared weights to act "
            "on: use mean (with --masks dense where the earlier run had masks), or --reuse all"
        )
    if gradients.metrics_every:
        return (
            "a frozen torso has no gradients whose cosines could be measured: "
            "leave gradients.metrics_every at 0"
        )
    return None


class RunConfig(Settings):
    """Everything that a run is."""

    recipe: str = "custom"
    seed: NonNegative = 1
    tasks: tuple[str, ...] = ("atari/breakout/m0d0",)
    """Task names and suites, for instance atari/breakout/m4d0 or atari/breakout/train."""
    held_out: tuple[str, ...] | Literal["default"] = "default"
    """Tasks never trained on, for zero-shot evaluation; `default` is each suite's own split."""
    total_steps: Positive = 1_000_000
    """Budget in agent steps over all tasks."""
    runtime: Literal["cluster", "local"] = "cluster"
    """cluster: Ray, on this machine or a cluster; local: one process, repeatable to the bit."""
    address: str = ""
    """Ray cluster to join; empty starts one on this machine."""
    environment: EnvironmentConfig = AtariConfig()
    network: NetworkConfig = NetworkConfig()
    algorithm: AlgorithmConfig = VTraceConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    learner: LearnerConfig = LearnerConfig()
    gradients: GradientConfig = GradientConfig()
    masks: MaskConfig = MaskConfig()
    actors: ActorConfig = ActorConfig()
    queue: QueueConfig = QueueConfig()
    replay: ReplayConfig = ReplayConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()
    initial: InitialConfig = InitialConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if not self.tasks:
            raise ValueError("tasks: need at least one task")
        behind = self.actors.version_delay + self.learner.publish_every - 1
        replayed = isinstance(self.algorithm, SacConfig | Td3Config)
        if behind > self.queue.max_policy_lag and not replayed:
            raise ValueError(
                f"queue.max_policy_lag {self.queue.max_policy_lag} drops every unroll: "
                f"actors.version_delay {self.actors.version_delay} and learner.publish_every "
                f"{self.learner.publish_every} put them {behind} versions behind"
            )
        problem = (
            _unfit(self.algorithm, self.network)
            or _guide_unfit(self.algorithm, self.environment)
            or _gradients_unfit(self.gradients, self.algorithm, self.learner)
            or _initial_unfit(self.initial, self.gradients)
        )
        if problem:
            raise ValueError(problem)
        match self.algorithm:
            case PpoConfig(minibatches=minibatches) if self.learner.batch_size % minibatches:
                raise ValueError(
                    f"learner.batch_size {self.learner.batch_size} must be a multiple of "
                    f"algorithm.minibatches {minibatches}"
                )
            case _:
                pass
        return self
