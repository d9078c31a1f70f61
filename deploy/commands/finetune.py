"""`repertory finetune RUN_DIR`: a new run on other tasks that begins with an earlier run's weights,
or, to compare with, the same run from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands import Page, train
from deploy.overrides import Texts, check_resume, options, resolve, scan
from deploy.schema import settings_of
from repertory.config import RunConfig, Settings
from repertory.config.finetuning import Reuse
from repertory.errors import BadInput

if TYPE_CHECKING:
    from deploy.finetuning.parent import Parent

USAGE = "repertory finetune RUN_DIR --task T [--task T2 ...] [options]"


class Options(Settings):
    """What to fine-tune on, and how; every other flag is a setting of the new run."""

    run_dir: Path
    """Directory of the pre-trained run; its settings are the new run's defaults."""
    task: tuple[str, ...] = ()
    """Tasks and suites to train on, seen before or not; one run over all of them."""
    held_out: bool = False
    """Train on the run's held-out tasks."""
    each: bool = False
    """One run per task, one after the other."""
    reuse: Reuse = "all"
    """all: every weight; frozen-torso: the same, and the torso is never trained again; reset-heads:
    heads, PopArt statistics and temperatures begin anew.
    """
    from_scratch: bool = False
    """The matching baseline: the same settings, tasks and seed, and nothing loaded."""
    masks: str = "voted"
    """Runs with masks: which one a new task gets. voted: the weights that the trained tasks vote
    for; source:<task>: that task's; dense: none, all weights are everyone's.
    """
    checkpoint: Path | None = None
    """A folder under checkpoints/; without it, the newest good one."""
    config: tuple[Path, ...] = ()
    """YAML files of settings, laid over the pre-trained run's; flags come last."""
    name: str = ""
    """Name of the run directory, with --each the beginning of every name. The same command sent
    again goes on with the runs of these names, and leaves those that are done.
    """
    runs_dir: Path = Path("runs")
    """Folder that run directories are made in."""
    dry_run: bool = False
    """Print the resolved config, the placement and a memory estimate; write nothing."""
    force: bool = False
    """Start although the disk has little room left."""


def page() -> Page:
    """Return the help, without the settings of the new run: their defaults are in RUN_DIR."""
    described = (
        "Train on other tasks, beginning with the weights of a run. Any setting of a run may "
        "follow (repertory train --help)."
    )
    return Page(USAGE, described, (Options,))


def run(tokens: Sequence[str]) -> int:
    """Check every run that is asked for, names included, then train one after the other."""
    chosen, texts = _parse(tokens)
    from deploy.finetuning.parent import check, derived, open_parent

    if chosen.from_scratch and chosen.reuse != "all":
        raise BadInput(
            f"--from-scratch loads nothing, so there is nothing to reuse: drop --reuse "
            f"{chosen.reuse}"
        )
    if chosen.from_scratch and (chosen.checkpoint is not None or chosen.masks != "voted"):
        given = "--checkpoint" if chosen.checkpoint is not None else "--masks"
        raise BadInput(f"--from-scratch loads nothing: drop {given}")
    parent = open_parent(chosen.run_dir, chosen.checkpoint, weights=not chosen.from_scratch)
    names = _tasks(chosen, parent)
    runs = []
    for group in [(name,) for name in names] if chosen.each else [names]:
        base = derived(parent, group, reuse=chosen.reuse, masks=chosen.masks)
        config = resolve(base, chosen.config, texts)
        if config.initial != base.initial or config.tasks != base.tasks:
            raise BadInput("tasks and initial are chosen by --task and --reuse: drop the settings")
        check(config, parent)
        runs.append((_place(chosen, group), config))
    # All names before any training: the third of five must not be refused hours later.
    begun = [_is_begun(chosen, place, config, texts) for place, config in runs]
    for index, (place, config) in enumerate(runs):
        if begun[index]:
            there = {"resume": place.runs_dir / place.name, "config": chosen.config}
            code = train.resume(place.model_copy(update=there), texts)
        else:
            code = train.start(place, config)
        if code != 0:
            _tell_what_is_left(chosen, [one.tasks[0] for _, one in runs[index + 1 :]])
            return code
    return 0


def _is_begun(chosen: Options, place: train.Options, config: RunConfig, texts: Texts) -> bool:
    """Return whether the run is there, begun by the same command.

    Raises:
        BadInput: the name is another run's, or no run can be made.
    """
    from repertory.run_directory import RunDirectory

    path = place.runs_dir / place.name
    if not place.name or not (path.expanduser() / "config.json").is_file():
        RunDirectory.check_new(place.runs_dir, place.name or None, force=place.force)
        return False
    before, _ = RunDirectory.open(path).read_config()
    was, now = _origin(before), _origin(config)
    if chosen.checkpoint is None:
        # The earlier run may have newer ones by now; this one keeps what it began with.
        was["checkpoint"] = now["checkpoint"]
    differs = next((name for name in now if was[name] != now[name]), None)
    if differs is not None:
        raise BadInput(
            f"{path} is there already, with {differs} {was[differs] or 'none'} and not "
            f"{now[differs] or 'none'}: choose another --name"
        )
    try:
        check_resume(before, resolve(before, chosen.config, texts))
    except BadInput as error:
        raise BadInput(f"{path} is there already; {error}") from error
    return True


def _origin(config: RunConfig) -> dict[str, str]:
    """Return what a fine-tuned run is known by, and what of it no resumed run may change."""
    initial = config.initial
    return {
        "tasks": ", ".join(config.tasks),
        "recipe": config.recipe,
        "earlier run": str(Path(initial.parent).expanduser().resolve()) if initial.parent else "",
        "checkpoint": initial.checkpoint,
        "reuse": initial.reuse,
        "masks": initial.masks,
        "gradients.method": config.gradients.method,
    }


def _tell_what_is_left(chosen: Options, tasks: Sequence[str]) -> None:
    """Say how to go on after a run of several that was stopped."""
    if not chosen.each:
        return
    if chosen.name:
        print("the same command goes on with what is left")
    elif tasks:
        print(f"not begun: {', '.join(tasks)}; with a --name the same command can go on by itself")


def _parse(tokens: Sequence[str]) -> tuple[Options, Texts]:
    own = list(settings_of(Options))
    both = {setting.path: setting for setting in (*settings_of(RunConfig), *own)}
    texts, words = scan(tokens, both.values())
    if len(words) > 1 or (words and "run_dir" in texts):
        raise BadInput(f"unexpected '{words[-1]}'; usage: {USAGE}")
    if words:
        texts["run_dir"] = (words[0],)
    if "run_dir" not in texts:
        raise BadInput(f"RUN_DIR is missing; usage: {USAGE}")
    names = {setting.path for setting in own}
    chosen = options(Options, {path: text for path, text in texts.items() if path in names})
    return chosen, {path: text for path, text in texts.items() if path not in names}


def _tasks(chosen: Options, parent: Parent) -> tuple[str, ...]:
    """Return the tasks that are asked for, suites spelled out."""
    from envs.registry import held_out_tasks, resolve

    names = list(resolve(chosen.task, parent.config.environment)) if chosen.task else []
    if chosen.held_out:
        held_out = held_out_tasks(parent.config)
        if not held_out and not names:
            raise BadInput(f"{chosen.run_dir} holds no task out: name tasks with --task")
        names += [name for name in held_out if name not in names]
    if not names:
        raise BadInput("name what to train on with --task, or use --held-out")
    return tuple(names)


def _place(chosen: Options, group: Sequence[str]) -> train.Options:
    """Return where a run goes."""
    slug = "-".join(group[0].split("/")[1:])
    name = f"{chosen.name}-{slug}" if chosen.name and chosen.each else chosen.name
    return train.Options(
        name=name, runs_dir=chosen.runs_dir, dry_run=chosen.dry_run, force=chosen.force
    )
