"""From the names in a run's config to tasks and lanes, over all suites.

Importing this is cheap: the emulator is only loaded when an Atari name is looked up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from envs.failures import RenewableLanes
from repertory.config import (
    AtariConfig,
    CountingConfig,
    EnvironmentConfig,
    HalfCheetahConfig,
    MetaworldConfig,
    PointMassConfig,
    RunConfig,
)
from repertory.errors import BadInput, did_you_mean
from repertory.types import ActionSpec, ObservationSpec, TaskSpec

PREFIXES = ("atari", "metaworld", "halfcheetah", "pointmass", "counting")
"""The first word of every task's name."""


def resolve(
    names: Sequence[str],
    environment: EnvironmentConfig,
    held_out: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Return the tasks that names of tasks and suites stand for, in their order.

    Args:
        names: tasks and suites.
        environment: must be of the suite that the names belong to.
        held_out: the run's own split, for suites that leave held-out tasks out.

    Raises:
        BadInput: no names, an unknown one, one of another suite, or a task named twice.
    """
    source: dict[str, str] = {}
    for name in names:
        for task in _expand(name, environment, held_out):
            if task in source:
                raise BadInput(
                    f"task '{task}' is given twice, by '{source[task]}' and by '{name}'; "
                    "name it once."
                )
            source[task] = name
    if not source:
        given = f" ({', '.join(names)} leaves none)" if names else ""
        raise BadInput(f"need at least one task{given}, for instance atari/breakout/m0d0.")
    return tuple(source)


def training_tasks(config: RunConfig) -> tuple[str, ...]:
    """Return the tasks that the run trains on.

    Raises:
        BadInput: a name is wrong, or a task is both trained on and held out by the config.
    """
    own = None if config.held_out == "default" else _given_held_out(config)
    tasks = resolve(config.tasks, config.environment, own)
    for task in tasks:
        if own is not None and task in own:
            raise BadInput(
                f"'{task}' is in both tasks and held_out; held-out tasks are never trained on "
                "(suites that end in /train leave them out)."
            )
    return tasks


def held_out_tasks(config: RunConfig) -> tuple[str, ...]:
    """Return the tasks for zero-shot evaluation: the config's own, or its suites' default split.

    The default is that of every game that the run trains on, without what it does train on.
    """
    if config.held_out != "default":
        return _given_held_out(config)
    trained = training_tasks(config)
    match config.environment:
        case AtariConfig():
            from envs.atari import suites

            games = dict.fromkeys(task.split("/")[1] for task in trained)
            default = [task for game in games for task in suites.default_held_out(game)]
            return tuple(task for task in default if task not in trained)
        case _:
            return ()


def task_specs(
    names: Sequence[str],
    environment: EnvironmentConfig,
    discount: float,
    action: ActionSpec | None = None,
) -> tuple[TaskSpec, ...]:
    """Describe the tasks `names` (suites already resolved), numbered from 0.

    Args:
        names: tasks.
        environment: their suite's settings.
        discount: per agent step.
        action: the action space of the policy that will play them, where that is already given
            (evaluation on other tasks); by default it follows from the tasks.

    Raises:
        BadInput: a name is wrong, or the tasks cannot share one action space.
    """
    match environment:
        case AtariConfig():
            from envs.atari import catalog

            if action is None:
                games = [catalog.parse(name).game for name in names]
                actions = catalog.action_set(games, environment.full_action_space)
                own = ActionSpec("discrete", len(actions))
            side = environment.frame_size
            observation = ObservationSpec((side, side), "uint8", environment.stack)
            frames = environment.frame_skip
        case MetaworldConfig():
            from envs.metaworld import catalog as metaworld

            observation, own, frames = metaworld.OBSERVATION, metaworld.ACTION, 5
        case HalfCheetahConfig():
            from envs.half_cheetah import catalog as half_cheetah

            observation, own, frames = half_cheetah.OBSERVATION, half_cheetah.ACTION, 5
        case PointMassConfig():
            from envs import point_mass

            observation, own, frames = point_mass.OBSERVATION, point_mass.ACTION, 1
        case CountingConfig():
            from envs import counting

            for name in names:
                counting.number(name)
            own = ActionSpec("box" if environment.continuous else "discrete", environment.actions)
            observation, frames = ObservationSpec((3,), "float32", 1), 1
    return tuple(
        TaskSpec(index, name, observation, action or own, discount, frames_per_step=frames)
        for index, name in enumerate(names)
    )


def make_lanes(
    environment: EnvironmentConfig,
    tasks: Sequence[TaskSpec],
    assignment: Sequence[int],
    *,
    seed: int,
    path: tuple[str | int, ...],
    run_seed: int | None = None,
) -> RenewableLanes:
    """Make one lane per entry of `assignment`, an index into `tasks`.

    Args:
        environment: the suite's settings.
        tasks: the run's tasks.
        assignment: which of `tasks` each lane plays.
        seed: of the lanes' random streams, the run's or an evaluation's.
        path: name of these lanes' random streams, for instance ("actor", 3).
        run_seed: the run's seed where `seed` is another one: what belongs to the tasks themselves
            (Meta-World's fixed goals) follows from it. By default `seed`.

    Raises:
        EnvironmentFailure: an environment cannot be made.
    """
    match environment:
        case AtariConfig():
            from envs.atari.lanes import AtariLanes

            return AtariLanes(tasks, assignment, environment, seed=seed, path=path)
        case MetaworldConfig():
            from envs.metaworld.lanes import MetaworldLanes

            return MetaworldLanes(
                tasks,
                assignment,
                environment,
                seed=seed,
                path=path,
                goal_seed=seed if run_seed is None else run_seed,
            )
        case HalfCheetahConfig():
            from envs.half_cheetah.lanes import HalfCheetahLanes

            return HalfCheetahLanes(tasks, assignment, environment, seed=seed, path=path)
        case PointMassConfig():
            from envs.point_mass import PointMassLanes

            return PointMassLanes(tasks, assignment, environment, seed=seed, path=path)
        case CountingConfig():
            from envs.counting import CountingLanes

            return CountingLanes(tasks, assignment, environment)


def list_suites() -> tuple[str, ...]:
    """Return the names of all suites that stand for several tasks."""
    from envs import point_mass
    from envs.atari import suites
    from envs.half_cheetah import catalog as half_cheetah
    from envs.metaworld import catalog as metaworld

    return (
        *suites.suites(),
        *metaworld.suites(),
        *half_cheetah.suites(),
        *point_mass.suites(),
    )


def _given_held_out(config: RunConfig) -> tuple[str, ...]:
    if not config.held_out:
        return ()
    return resolve(config.held_out, config.environment)


def _expand(
    name: str, environment: EnvironmentConfig, held_out: Collection[str] | None
) -> tuple[str, ...]:
    prefix = name.split("/")[0]
    if prefix not in PREFIXES:
        hint = did_you_mean(prefix, PREFIXES)
        if environment.suite == "atari":
            from envs.atari import suites

            meant = suites.meant_by(name, near=not hint)
            hint = f" Did you mean '{meant}'?" if meant else hint
        raise BadInput(
            f"unknown task '{name}': no suite is called '{prefix}'.{hint} "
            f"Suites: {', '.join(PREFIXES)}."
        )
    if prefix != environment.suite:
        raise BadInput(
            f"'{name}' is of the suite {prefix}, but environment.suite is {environment.suite}; "
            "a run's tasks are all of one suite."
        )
    match prefix:
        case "counting":
            from envs import counting

            return (f"counting/{counting.number(name)}",)
        case "metaworld":
            from envs.metaworld import catalog as metaworld

            return metaworld.expand(name)
        case "halfcheetah":
            from envs.half_cheetah import catalog as half_cheetah

            return half_cheetah.expand(name)
        case "pointmass":
            from envs import point_mass

            return point_mass.expand(name)
        case _:
            from envs.atari import suites

            return suites.expand(name, held_out)
