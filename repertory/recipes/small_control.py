"""Off-policy recipes for two cores: minutes for control groups, seconds for points in a room."""

from __future__ import annotations

from repertory.config import (
    ActorConfig,
    CheckpointConfig,
    EnvironmentConfig,
    EvaluationConfig,
    GuideConfig,
    HalfCheetahConfig,
    LearnerConfig,
    LoggingConfig,
    OptimiserConfig,
    PointMassConfig,
    ReplayConfig,
    RunConfig,
    SacConfig,
)
from repertory.recipes.control import CTPG, METAWORLD, SAC, network
from repertory.recipes.recipe import Recipe

# For two cores: small networks, and a batch that one core updates from some hundred times a second.
# At an eighth (a fifteenth, on Meta-World) of the published steps: rewards unscaled, temperatures
# that begin where the published ones arrive after ten thousand updates, and ten times the learning
# rate, else next to nothing is learned in this time (measured on both groups).
_SMALL_ROWS = 64
_SMALL_OPTIMISER = OptimiserConfig(
    kind="adam", learning_rate=1e-3, anneal="none", epsilon=1e-8, clip_norm=10.0
)


def _small(
    name: str,
    words: str,
    tasks: tuple[str, ...],
    environment: EnvironmentConfig,
    *,
    count: int,
    guide: GuideConfig,
    steps_per_task: int,
    hidden: int = 128,
    exploration_steps: int = 2_000,
) -> Recipe:
    """Return a run of minutes, in one process and repeatable to the bit."""
    algorithm = SAC.model_copy(
        update={
            "guide": guide,
            "exploration_steps": exploration_steps,
            "maskout": 0.0,
            "reward_scale": 1.0,
            "temperature": 0.2,
        }
    )
    config = RunConfig(
        recipe=name,
        tasks=tasks,
        held_out=(),
        total_steps=steps_per_task * count,
        runtime="local",
        environment=environment,
        network=network("mtsac", hidden=hidden, layers=2),
        algorithm=algorithm,
        optimiser=_SMALL_OPTIMISER,
        learner=LearnerConfig(
            batch_size=_SMALL_ROWS * count,
            unroll_length=10,
            publish_every=1,
            device="cpu",
            precision="fp32",
        ),
        actors=ActorConfig(count=1, lanes=count),
        replay=ReplayConfig(
            capacity=steps_per_task * count, samples_per_insert=float(_SMALL_ROWS), saved=True
        ),
        evaluation=EvaluationConfig(
            every_steps=steps_per_task * count // 10, episodes=5, lanes=5 * count
        ),
        checkpoint=CheckpointConfig(every_s=300.0, keep=1),
        logging=LoggingConfig(every_updates=1_000),
    )
    return Recipe(name, words, config)


# The gates of table 10 at a tenth of the published run's length.
_SMALL_CTPG = CTPG.model_copy(update={"filter_from": 2_000, "block_every": 2_000})

# Reaching, pushing and opening share their first half: the hand goes to the object.
_SHARED_SKILLS = (
    "metaworld/reach",
    "metaworld/push",
    "metaworld/drawer-close",
    "metaworld/drawer-open",
    "metaworld/button-press-topdown",
)


def _small_pairs() -> tuple[Recipe, ...]:
    recipes = []
    for suffix, guide in (("", GuideConfig()), ("-ctpg", _SMALL_CTPG)):
        guidance = " with guidance" if suffix else ""
        recipes += [
            _small(
                f"halfcheetah-mt5-small{suffix}",
                f"five gravities, a small network, minutes on one core{guidance}",
                ("halfcheetah/mt5",),
                HalfCheetahConfig(),
                count=5,
                guide=guide,
                steps_per_task=100_000,
            ),
            _small(
                f"metaworld-small{suffix}",
                f"five Meta-World tasks with shared skills, a small network{guidance}",
                _SHARED_SKILLS,
                METAWORLD,
                count=5,
                guide=guide,
                steps_per_task=100_000,
            ),
        ]
    # What gradient methods are compared on (docs/results.md): legs and torsos that differ in size.
    recipes.append(
        _small(
            "halfcheetah-mt8-small",
            "eight bodies, a small network, minutes on one core",
            ("halfcheetah/mt8",),
            HalfCheetahConfig(),
            count=8,
            guide=GuideConfig(),
            steps_per_task=50_000,
        )
    )
    return tuple(recipes)


# One policy lent for twelve steps all but reaches the door; every step inside the goal is worth 1;
# the filter sets in long before the door is solved. Many lanes, since a step costs nothing here.
_POINT_SAC = SacConfig(
    discount=0.96,
    target_step=0.03,
    temperature=0.1,
    temperature_cap=1.0,
    exploration="policy",
    exploration_steps=200,
)
_POINT_CTPG = GuideConfig(kind="ctpg", step=12, filter_from=100, block="none")


def _point_masses() -> tuple[Recipe, ...]:
    """Return the toy group with and without guidance: one goal is found by another's policy."""
    recipes = []
    for suffix, guide in (("", GuideConfig()), ("-ctpg", _POINT_CTPG)):
        small = _small(
            f"pointmass{suffix}",
            f"three goals in a room with a wall, seconds{' with guidance' if suffix else ''}",
            ("pointmass/mt3",),
            PointMassConfig(horizon=60),
            count=3,
            guide=guide,
            steps_per_task=7_500,
            hidden=32,
        )
        config = small.config.model_copy(
            update={
                "algorithm": _POINT_SAC.model_copy(update={"guide": guide}),
                "optimiser": small.config.optimiser.model_copy(
                    update={"learning_rate": 5e-3, "clip_norm": 10.0}
                ),
                "actors": ActorConfig(count=1, lanes=18, precision="fp32"),
                "replay": ReplayConfig(capacity=30_000, samples_per_insert=5.0),
                "logging": LoggingConfig(every_updates=50),
            }
        )
        recipes.append(Recipe(small.name, small.summary, config))
    return tuple(recipes)


RECIPES = (*_small_pairs(), *_point_masses())
