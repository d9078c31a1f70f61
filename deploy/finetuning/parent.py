"""Opens the run that is fine-tuned, derives the new run's config, and checks that they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.build import is_off_policy, tasks_of
from deploy.export.folder import is_exported, read_learner_part, verify
from deploy.finetuning.transplant import SOURCE, InitialWeights, slimmed
from envs.registry import task_specs, training_tasks
from repertory import checkpoint
from repertory.config import AtariConfig, InitialConfig, PpoConfig, RunConfig, VTraceConfig
from repertory.config.finetuning import Reuse
from repertory.errors import BadInput, did_you_mean
from repertory.run_directory import RunDirectory
from repertory.types import TaskSpec


@dataclass(frozen=True, slots=True)
class Parent:
    """A run whose weights another one begins with."""

    path: Path
    config: RunConfig
    tasks: tuple[TaskSpec, ...]
    checkpoint: Path | None
    """None where nothing is to be taken over."""


def open_parent(path: Path, checkpoint_path: Path | None = None, *, weights: bool = True) -> Parent:
    """Open a run and find the checkpoint: the newest good one, or the one given.

    An exported agent is its own checkpoint.

    Raises:
        BadInput: it is no run, or has no good checkpoint and `weights` are wanted.
    """
    directory = RunDirectory.open(path)
    config, _ = directory.read_config()
    tasks = tasks_of(config)
    if not weights:
        return Parent(Path(path), config, tasks, None)
    if is_exported(directory.path):
        if checkpoint_path is not None:
            raise BadInput(f"{path} is an exported agent, which has no checkpoints to choose")
        verify(directory.path)
        return Parent(Path(path), config, tasks, directory.path)
    if checkpoint_path is not None:
        checkpoint.verify(checkpoint_path)
        return Parent(Path(path), config, tasks, checkpoint_path)
    _, found, _ = checkpoint.load_latest(directory.checkpoints, only=("counters",))
    return Parent(Path(path), config, tasks, found)


def derived(
    parent: Parent, names: Sequence[str], *, reuse: Reuse, masks: str = "voted"
) -> RunConfig:
    """Return the config of a run on other tasks: the parent's, in everything that can stay.

    Without a checkpoint it is the baseline from scratch. Fitted to the tasks are: the actions
    (Atari's `auto` would choose by game), a batch that they can share equally, and the method of
    joining gradients, which one task alone does not need.

    Raises:
        BadInput: `masks` are chosen of a run that has none.
    """
    config, found = parent.config, parent.checkpoint
    if masks != "voted" and config.gradients.method != "harmony":
        raise BadInput(
            f"--masks {masks} needs a run of gradients.method harmony, and {parent.path} is one "
            f"of {config.gradients.method}: leave it out"
        )
    kind = "scratch" if found is None else "finetune"
    task = "-" + "-".join(names[0].split("/")[1:]) if len(names) == 1 else ""
    update: dict[str, Any] = {
        "recipe": f"{config.recipe}-{kind}{task}",
        "tasks": tuple(names),
        "held_out": (),
        "initial": InitialConfig(
            parent=str(parent.path),
            checkpoint="" if found is None else _shown(parent.path, found),
            parent_tasks=tuple(task.name for task in parent.tasks),
            reuse="none" if found is None else reuse,
            masks="voted" if masks == "dense" else masks,
        ),
    }
    if isinstance(config.environment, AtariConfig):
        full = len(_actions(parent.tasks, config.environment)) == 18
        update["environment"] = config.environment.model_copy(update={"full_action_space": full})
    batch = config.learner.batch_size
    if is_off_policy(config) and batch % len(names):
        shared = max(batch - batch % len(names), len(names))
        update["learner"] = config.learner.model_copy(update={"batch_size": shared})
    update |= _gradients(config, len(names), dense=masks == "dense", loads=found is not None)
    if found is not None and reuse == "frozen-torso":
        gradients = update.get("gradients", config.gradients)
        update["gradients"] = gradients.model_copy(update={"metrics_every": 0})
    return config.model_copy(update=update)


def _gradients(config: RunConfig, tasks: int, *, dense: bool, loads: bool) -> dict[str, Any]:
    """Return the settings of gradients and masks that other tasks need, where they differ."""
    method = config.gradients.method
    if method == "harmony" and not dense and (tasks > 1 or loads):
        # Masks change by how a task's gradient agrees with the others': one task's stay.
        stays = config.masks.model_copy(update={"variant": "random"})
        return {"masks": stays} if tasks == 1 else {}
    if method == "mean" or (tasks > 1 and method != "harmony") or (tasks > 1 and not dense):
        return {}
    return {"gradients": config.gradients.model_copy(update={"method": "mean"})}


def check(config: RunConfig, parent: Parent) -> None:
    """Raise BadInput, in one sentence, if a run cannot begin with its parent's weights."""
    tasks = tasks_of_sizes(config)
    theirs, own = parent.tasks[0], tasks[0]
    if (theirs.observation, theirs.action) != (own.observation, own.action):
        raise BadInput(
            f"{parent.path} plays {theirs.action.size} actions on observations of "
            f"{_size(theirs)}, but {own.name} has {own.action.size} actions and observations of "
            f"{_size(own)}: weights fit only tasks of the same sizes"
        )
    if isinstance(config.environment, AtariConfig) and isinstance(
        parent.config.environment, AtariConfig
    ):
        before = _actions(parent.tasks, parent.config.environment)
        if _actions(tasks, config.environment) != before:
            raise BadInput(
                f"the {theirs.action.size} actions of {own.name} are other ones than those that "
                f"{parent.path} was trained with: fine-tune on the same game, or pre-train with "
                "environment.full_action_space true"
            )
    kinds = parent.config.algorithm.kind, config.algorithm.kind
    on_policy = all(
        isinstance(one.algorithm, VTraceConfig | PpoConfig) for one in (parent.config, config)
    )
    if kinds[0] != kinds[1] and not on_policy:
        raise BadInput(
            f"{parent.path} is a run of algorithm.kind {kinds[0]}, whose networks do not fit "
            f"{kinds[1]}: keep {kinds[0]}"
        )
    _check_network(config, parent)
    if config.initial.loads:
        _check_masks(config, parent)


def tasks_of_sizes(config: RunConfig) -> tuple[TaskSpec, ...]:
    """Return the run's tasks; BadInput for a wrong name, or tasks that share no action space."""
    return task_specs(training_tasks(config), config.environment, config.algorithm.discount)


def _check_network(config: RunConfig, parent: Parent) -> None:
    before = parent.config.network.model_dump()
    for name, value in config.network.model_dump().items():
        if before[name] != value:
            raise BadInput(
                f"network.{name} is {_plain(before[name])} in {parent.path} and {_plain(value)} "
                "was given: fine-tuning keeps the network as it was"
            )


def _check_masks(config: RunConfig, parent: Parent) -> None:
    choice = config.initial.masks
    masked = parent.config.gradients.method == "harmony"
    if config.gradients.method == "harmony" and not masked:
        raise BadInput(
            f"gradients.method harmony needs masks to begin with, and {parent.path} has none: "
            f"keep {parent.config.gradients.method}"
        )
    if choice == "voted":
        return
    names = [task.name for task in parent.tasks]
    source = choice.removeprefix(SOURCE)
    if not choice.startswith(SOURCE) or source not in names:
        wrong = source if choice.startswith(SOURCE) else choice
        raise BadInput(
            f"--masks {choice} is not one of voted, dense and {SOURCE}<task>."
            f"{did_you_mean(wrong, names)} Tasks: {', '.join(names)}"
        )


def initial_weights(config: RunConfig) -> InitialWeights | None:
    """Return what a fine-tuned run's learner begins with; None where it begins by itself.

    Raises:
        BadInput: the checkpoint that was there at launch is not any more, or is damaged.
    """
    if not config.initial.loads:
        return None
    name = config.initial.checkpoint
    if "/" in name and is_exported(Path(name)):
        return slimmed(config.initial.parent_tasks, read_learner_part(Path(name))[1])
    inside = RunDirectory(Path(config.initial.parent).expanduser()).checkpoints / name
    state = checkpoint.load(Path(name) if "/" in name else inside, only=("learner",))
    return slimmed(config.initial.parent_tasks, state["learner"])


def _shown(run: Path, found: Path) -> str:
    """Return a checkpoint's name if it lies in the run, else its path (with a slash in it)."""
    inside = RunDirectory(run).checkpoints
    return found.name if found.parent.resolve() == inside.resolve() else str(found.absolute())


def _actions(tasks: Sequence[TaskSpec], environment: AtariConfig) -> tuple[int, ...]:
    from envs.atari import catalog

    games = [catalog.parse(task.name).game for task in tasks]
    return catalog.action_set(games, environment.full_action_space)


def _size(task: TaskSpec) -> str:
    return " x ".join(str(side) for side in task.observation.shape)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return str(value)
