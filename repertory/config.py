"""The one description of a run: frozen, strict models, written to `config.json` and read by every
part.

A recipe, a YAML file, a flag and a resumed run are all held to this schema.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Discount = Annotated[float, Field(gt=0.0, le=1.0)]
Precision = Literal["auto", "fp32", "bf16"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]


class Settings(BaseModel):
    """Base of all settings: frozen, strict types, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


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
    fail_task: str = ""
    """This task raises at `fail_step`, for tests of failures."""
    fail_step: NonNegative = 0


EnvironmentConfig = Annotated[AtariConfig | CountingConfig, Field(discriminator="suite")]


class PopArtConfig(Settings):
    """Value normalisation per task with exact output preservation (Hessel et al. 2019)."""

    enabled: bool = False
    """One value output and one pair of statistics per task."""
    step_size: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-4
    """beta of the moving averages."""
    sigma_min: PositiveFloat = 1e-4
    sigma_max: PositiveFloat = 1e6


class NetworkConfig(Settings):
    """Policy and value network."""

    torso: Literal["shallow", "nature", "impala", "mlp"] = "shallow"
    """shallow: two convolutions; nature: three; impala: residual network; mlp: vectors."""
    width: Annotated[float, Field(gt=0.0)] = 1.0
    """Multiplies the channels of every convolution."""
    depth: Positive = 1
    """impala: multiplies the residual blocks per stage (2 at depth 1)."""
    hidden: Positive = 256
    """Units of the fully connected layer."""
    lstm: NonNegative = 0
    """Units of the LSTM; 0 for none."""
    conditioning: Literal["none", "one_hot", "embedding"] = "none"
    """Whether, and how, the network is told its task."""
    embedding_size: Positive = 32
    """Size of a learned task embedding."""
    popart: PopArtConfig = PopArtConfig()


class VTraceConfig(Settings):
    """V-trace actor-critic (Espeholt et al. 2018)."""

    kind: Literal["vtrace"] = "vtrace"
    discount: Discount = 0.99
    rho_clip: PositiveFloat = 1.0
    """rho-bar: decides which policy's value is the fixed point."""
    c_clip: PositiveFloat = 1.0
    """c-bar: decides only how fast it is reached; at most rho_clip."""
    policy_gradient_rho_clip: PositiveFloat = 1.0
    trace_lambda: Probability = 1.0
    entropy_cost: NonNegativeFloat = 0.01
    value_cost: NonNegativeFloat = 0.5
    """Multiplies 1/2 (v - V)^2."""
    loss_reduction: Literal["sum", "mean"] = "sum"
    """Over time and batch. Published IMPALA learning rates assume `sum`."""

    @model_validator(mode="after")
    def _clips(self) -> VTraceConfig:
        if self.c_clip > self.rho_clip:
            raise ValueError(
                f"algorithm.c_clip {self.c_clip} must not exceed algorithm.rho_clip {self.rho_clip}"
            )
        return self


class PpoConfig(Settings):
    """Clipped single-step ratio with GAE (Schulman et al. 2017)."""

    kind: Literal["ppo"] = "ppo"
    discount: Discount = 0.99
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    gae_lambda: Probability = 0.95
    epochs: Positive = 4
    """Passes over each batch of unrolls."""
    minibatches: Positive = 4
    """Parts a batch is cut into, along its unrolls, in every pass."""
    entropy_cost: NonNegativeFloat = 0.01
    value_cost: NonNegativeFloat = 0.5
    normalise_advantage: bool = True
    """Zero mean and unit variance per minibatch."""
    loss_reduction: Literal["sum", "mean"] = "mean"


AlgorithmConfig = Annotated[VTraceConfig | PpoConfig, Field(discriminator="kind")]


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
    """Unrolls per update, in equal shares of the tasks."""
    unroll_length: Positive = 20
    """T, steps per unroll."""
    publish_every: Positive = 1
    """Updates between publications of the weights."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"
    """bf16: convolutions and matrix products in bfloat16; losses and log-probabilities are always
    float32.
    """
    memory_format: MemoryFormat = "auto"
    """Layout of images in convolutions; `auto` is channels_last, the faster one where measured."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the update (needs a C++ compiler). `auto` does not: on CPUs it was measured to gain
    nothing, and on CUDA it was not measured.
    """
    threads: Positive = 1
    """Threads of the matrix library in the learner's process."""
    nonfinite_limit: Positive = 10
    """So many updates in a row with a loss or gradient that is not finite end the run; each is
    skipped.
    """


class ActorConfig(Settings):
    """Rollout workers."""

    count: Positive = 2
    """Worker processes, one per core."""
    lanes: Positive = 32
    """Environments per worker, stepped together with one batched policy call."""
    groups: Annotated[int, Field(ge=1, le=2)] = 1
    """2: the policy runs on one half of the lanes while the other half steps."""
    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    max_outstanding: Annotated[int, Field(ge=1, le=8)] = 2
    """Unrolls a worker may have sent that are not yet acknowledged."""
    version_delay: Annotated[int, Field(ge=0, le=1000)] = 0
    """Act with weights so many versions older than the newest, to study policy lag."""
    timeout_s: PositiveFloat = 60.0
    """A worker that is not held back and delivers nothing for so long is killed and replaced."""
    max_restarts: NonNegative = 100
    """Replacements of one worker before the run ends."""


class QueueConfig(Settings):
    """Per-task trajectory queues between actors and learner."""

    capacity_batches: PositiveFloat = 2.0
    """Each task's queue holds so many times its share of a batch (at least its lanes, twice)."""
    max_policy_lag: Positive = 50
    """Unrolls acted with weights more than so many versions old are dropped and counted."""
    patience_s: NonNegativeFloat = 3.0
    """A task that delivers nothing for so long is left out of a batch, and the gap counted
    (cluster only).
    """


class EvaluationConfig(Settings):
    """Evaluation beside training, on workers of its own."""

    every_steps: NonNegative = 0
    """Agent steps between evaluations; 0 for none but the last."""
    episodes: Positive = 5
    """Episodes per task and policy."""
    policies: tuple[Literal["greedy", "sampled", "random"], ...] = ("greedy",)
    """greedy: the likeliest action; sampled: as in training; random: the floor to compare with."""
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
    """Tasks of which one episode is filmed at each evaluation."""

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
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online with a key, offline without."""
    wandb_project: str = "repertory"
    wandb_group: str = ""
    wandb_checkpoints: Literal["none", "last", "all"] = "none"


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
    actors: ActorConfig = ActorConfig()
    queue: QueueConfig = QueueConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if not self.tasks:
            raise ValueError("tasks: need at least one task")
        behind = self.actors.version_delay + self.learner.publish_every - 1
        if behind > self.queue.max_policy_lag:
            raise ValueError(
                f"queue.max_policy_lag {self.queue.max_policy_lag} drops every unroll: "
                f"actors.version_delay {self.actors.version_delay} and learner.publish_every "
                f"{self.learner.publish_every} put them {behind} versions behind"
            )
        match self.algorithm:
            case PpoConfig(minibatches=minibatches) if self.learner.batch_size % minibatches:
                raise ValueError(
                    f"learner.batch_size {self.learner.batch_size} must be a multiple of "
                    f"algorithm.minibatches {minibatches}"
                )
            case _:
                pass
        return self
