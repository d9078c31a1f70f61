"""On-policy recipes on Atari variants, every number with its source."""

from __future__ import annotations

from repertory.config import (
    ActorConfig,
    AtariConfig,
    CheckpointConfig,
    EvaluationConfig,
    LearnerConfig,
    LoggingConfig,
    NetworkConfig,
    OptimiserConfig,
    PopArtConfig,
    PpoConfig,
    RunConfig,
    VTraceConfig,
)
from repertory.recipes.masked import masked
from repertory.recipes.recipe import Recipe

# Espeholt et al. 2018, table G.1: discount 0.99, baseline cost 0.5, entropy 0.01, losses summed
# over 32 unrolls of 20 steps; RMSProp (TensorFlow's, epsilon 0.01 under the root, no momentum, the
# released code's decay 0.99) at 6e-4, annealed to zero; gradient norm clipped to 40.
_IMPALA = VTraceConfig(
    discount=0.99, entropy_cost=0.01, value_cost=0.5, loss_reduction="sum", rho_clip=1.0, c_clip=1.0
)
_IMPALA_OPTIMISER = OptimiserConfig(
    kind="rmsprop_tensorflow",
    learning_rate=6e-4,
    anneal="linear",
    epsilon=0.01,
    decay=0.99,
    momentum=0.0,
    clip_norm=40.0,
)
_IMPALA_BATCH = LearnerConfig(batch_size=32, unroll_length=20)

# For runs of a few million steps: many small updates with Adam. Measured on default Breakout, a
# batch of 8 unrolls returns 12 after 0.65 M steps where one of 32, a quarter of the updates,
# returns 3; and 1e-3 returns 16 where 5e-4 returns 11 (docs/results.md). Sixteen lanes per worker
# keep the policy lag at six of these small updates.
_EARLY_OPTIMISER = OptimiserConfig(
    kind="adam", learning_rate=1e-3, anneal="linear", epsilon=1e-8, clip_norm=40.0
)
_EARLY_BATCH = LearnerConfig(batch_size=8, unroll_length=20)
_EARLY_ACTORS = ActorConfig(count=2, lanes=16)

# The wrappers that the published early-learning curves were made with (OpenAI Baselines and IMPALA
# of 2018): no sticky actions, 1 to 30 no-ops, FIRE after a reset, a lost life ends the return,
# rewards clipped, the game's own four actions.
_BASELINES_ATARI = AtariConfig(
    repeat_action_probability=0.0,
    noop_max=30,
    fire_reset=True,
    life_loss_ends=True,
    clip_rewards=True,
    full_action_space="auto",
)

# Machado et al. 2018: sticky actions 0.25, all 18 actions, no life signal. Work on game variants
# (Farebrother et al. 2018) uses it; what Ali Taiga et al. 2023 used is not published.
_STICKY_ATARI = AtariConfig(
    repeat_action_probability=0.25,
    noop_max=30,
    fire_reset=False,
    life_loss_ends=False,
    clip_rewards=True,
    full_action_space=True,
)

# A step size of 3e-4 and sigma in [1e-4, 1e6]: Hessel et al. 2019.
_POPART = PopArtConfig(enabled=True, step_size=3e-4, sigma_min=1e-4, sigma_max=1e6)

# The 15-layer residual network of Espeholt et al. 2018, feed-forward on Atari.
_DEEP = NetworkConfig(torso="impala", width=1.0, depth=1, hidden=256, lstm=0, popart=_POPART)

_QUICK_TASKS = (
    "atari/breakout/m0d0",
    "atari/breakout/m4d0",
    "atari/breakout/m16d0",
    "atari/breakout/m20d0",
)

# Random play beside the learned policies shows what was learned; zero-shot play on the three
# variants held out adds some 20,000 steps after the last update.
_QUICK_EVALUATION = EvaluationConfig(
    episodes=5, policies=("greedy", "sampled", "random"), max_steps=4_500, held_out=True
)

_QUICKSTART = RunConfig(
    recipe="quickstart",
    # Modes 16 and 20 let the ball through the bricks: points are dense, so they rise first.
    tasks=_QUICK_TASKS,
    total_steps=1_000_000,
    environment=_BASELINES_ATARI,
    network=NetworkConfig(torso="shallow", hidden=256),
    algorithm=_IMPALA,
    optimiser=_EARLY_OPTIMISER,
    learner=_EARLY_BATCH,
    actors=_EARLY_ACTORS,
    evaluation=_QUICK_EVALUATION,
    checkpoint=CheckpointConfig(every_s=60.0),
    logging=LoggingConfig(every_s=5.0),
)

# Published IMPALA logs (RLlib reference runs) on Breakout without sticky actions reach 19.7 to 29.0
# after 1 M agent steps and 50 to 90 after 2 M; this recipe is held to half of the worst: 10 and 30.
_BREAKOUT_CHECK = RunConfig(
    recipe="breakout-check",
    tasks=("atari/breakout/m0d0",),
    total_steps=2_000_000,
    environment=_BASELINES_ATARI.model_copy(update={"full_action_space": False}),
    network=NetworkConfig(torso="shallow", hidden=256),
    algorithm=_IMPALA,
    optimiser=_EARLY_OPTIMISER,
    learner=_EARLY_BATCH,
    actors=_EARLY_ACTORS,
    evaluation=EvaluationConfig(episodes=10, policies=("greedy", "sampled")),
    checkpoint=CheckpointConfig(every_s=120.0),
)

_SINGLE_TASK = RunConfig(
    recipe="single-task",
    tasks=("atari/breakout/m0d0",),
    # IMPALA's budget per game: 200 M frames.
    total_steps=50_000_000,
    environment=_STICKY_ATARI,
    network=_DEEP.model_copy(update={"popart": PopArtConfig()}),
    algorithm=_IMPALA,
    optimiser=_IMPALA_OPTIMISER,
    learner=_IMPALA_BATCH,
    actors=ActorConfig(count=8, lanes=32),
    evaluation=EvaluationConfig(every_steps=5_000_000, episodes=10),
)

_ATARI_MIXED = RunConfig(
    recipe="atari-mixed",
    tasks=(
        "atari/breakout/m0d0",
        "atari/space_invaders/m0d0",
        "atari/asteroids/m0d0",
        "atari/bank_heist/m0d0",
        "atari/pong/m0d0",
        "atari/seaquest/m0d0",
        "atari/qbert/m0d0",
        "atari/beam_rider/m0d0",
    ),
    # 200 M frames per game, as Espeholt et al. 2018 give each of the 57.
    total_steps=8 * 50_000_000,
    # Unclipped: one network that plays many games learns nothing unclipped without PopArt, and
    # above the human median with it (Hessel et al. 2019).
    environment=_STICKY_ATARI.model_copy(update={"clip_rewards": False}),
    network=_DEEP,
    algorithm=_IMPALA,
    optimiser=_IMPALA_OPTIMISER,
    learner=_IMPALA_BATCH,
    actors=ActorConfig(count=8, lanes=32),
    evaluation=EvaluationConfig(every_steps=20_000_000, episodes=5),
)

_PPO = RunConfig(
    recipe="ppo",
    tasks=_QUICK_TASKS,
    total_steps=1_000_000,
    environment=_BASELINES_ATARI,
    network=NetworkConfig(torso="shallow", hidden=256),
    # Schulman et al. 2017, table 5: clip 0.1, 8 x 128 = 1,024 steps per update in minibatches of
    # 256 steps, Adam 2.5e-4 annealed, lambda 0.95. Passes (4), epsilon and the norm of 0.5 are
    # those of OpenAI Baselines.
    algorithm=PpoConfig(clip=0.1, gae_lambda=0.95, epochs=4, minibatches=4),
    optimiser=OptimiserConfig(
        kind="adam", learning_rate=2.5e-4, anneal="linear", epsilon=1e-5, clip_norm=0.5
    ),
    learner=LearnerConfig(batch_size=32, unroll_length=32),
    actors=ActorConfig(count=2, lanes=16),
    evaluation=_QUICK_EVALUATION,
    checkpoint=CheckpointConfig(every_s=60.0),
)


def _pretrain(game: str, variants: int, total_steps: int) -> Recipe:
    """One network on all training variants of a game (Ali Taiga et al. 2023), lanes in equal parts.

    Every worker plays every variant on the same number of lanes.
    """
    name = f"atari-{game.replace('_', '-')}-pretrain"
    config = RunConfig(
        recipe=name,
        tasks=(f"atari/{game}/train",),
        total_steps=total_steps,
        environment=_STICKY_ATARI,
        network=_DEEP,
        algorithm=_IMPALA,
        optimiser=_IMPALA_OPTIMISER,
        learner=_IMPALA_BATCH,
        # Some 500 lanes are 16 updates of 32 unrolls: a policy lag that V-trace corrects well.
        actors=ActorConfig(count=8, lanes=variants * max(1, 64 // variants)),
        evaluation=EvaluationConfig(
            every_steps=50_000_000, episodes=5, lanes=variants, held_out=True
        ),
    )
    return Recipe(name, f"one network on {variants} variants of {game}, published scale", config)


# 15 billion frames for 63 variants of Asteroids and 29 of Space Invaders: Farebrother et al. 2024,
# who follow Ali Taiga et al. 2023. No figure is published for the other two games; they get
# IMPALA's 200 M frames per variant.
_FIFTEEN_BILLION_FRAMES = 3_750_000_000
_STEPS_PER_VARIANT = 50_000_000

RECIPES = (
    Recipe("quickstart", "four Breakout variants, minutes on two cores", _QUICKSTART),
    Recipe("breakout-check", "default Breakout against published early curves", _BREAKOUT_CHECK),
    Recipe("single-task", "the baseline: one variant, one deep network", _SINGLE_TASK),
    _pretrain("breakout", 21, 21 * _STEPS_PER_VARIANT),
    _pretrain("space_invaders", 29, _FIFTEEN_BILLION_FRAMES),
    _pretrain("asteroids", 63, _FIFTEEN_BILLION_FRAMES),
    _pretrain("bank_heist", 29, 29 * _STEPS_PER_VARIANT),
    masked(_pretrain("breakout", 21, 21 * _STEPS_PER_VARIANT), "atari-breakout-harmony"),
    Recipe("atari-mixed", "eight games, 18 actions, unclipped rewards, PopArt", _ATARI_MIXED),
    Recipe("ppo", "the quickstart's tasks with PPO on the same pipeline", _PPO),
)
