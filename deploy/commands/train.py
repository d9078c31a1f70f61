"""`repertory train`: from a recipe, YAML files and flags to a checked config, a run, a runtime."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.commands import Page
from deploy.overrides import Texts, check_resume, options, resolve, scan
from deploy.schema import settings_of
from deploy.secret_files import read_secret_files
from deploy.terminal_warnings import TerminalWarnings
from repertory.config import RunConfig, SacConfig, Settings, Td3Config
from repertory.errors import BadInput, NumericalFailure
from repertory.recipes import RECIPES, get

if TYPE_CHECKING:
    from deploy.preflight import Plan
    from repertory.run_directory import RunDirectory

USAGE = "repertory train RECIPE [options] | repertory train --resume RUN_DIR [options]"
AUTO = Path("auto")

log = logging.getLogger(__name__)


class Options(Settings):
    """What to run and where to keep it; everything else is the run's own config."""

    resume: Path | None = None
    """Go on with the run of this directory, from its newest good checkpoint; auto: with the run
    called --name if there is one, else start it, so that one command can be sent again and again.
    """
    config: tuple[Path, ...] = ()
    """YAML files of settings, laid over the recipe in their order; flags come last."""
    name: str = ""
    """Name of the run directory; empty for <recipe>-<utc>-<4 hex>."""
    runs_dir: Path = Path("runs")
    """Folder that run directories are made in."""
    dry_run: bool = False
    """Print the resolved config, the placement and a memory estimate; write nothing."""
    force: bool = False
    """Start although the disk has little room left."""


def page(recipe: str = "") -> Page:
    """Return the help, with a recipe's values as the defaults."""
    config = get(recipe).config if recipe else RunConfig()
    usage = f"repertory train {recipe}" if recipe else USAGE
    described = get(recipe).summary if recipe else f"Recipes: {', '.join(RECIPES)}"
    return Page(usage, f"{described}. Precedence: recipe, --config, flags.", (Options, config))


def run(tokens: Sequence[str]) -> int:
    """Train and return the runtime's exit code."""
    read_secret_files()
    chosen, texts, words = _parse(tokens)
    if len(words) > 1:
        raise BadInput(f"unexpected '{words[1]}'; usage: {USAGE}")
    if chosen.resume == AUTO:
        return _start_or_resume(chosen, texts, words)
    if chosen.resume is not None:
        if words or chosen.name:
            given = f"recipe '{words[0]}'" if words else f"--name {chosen.name}"
            raise BadInput(f"--resume takes recipe and name from the run: drop {given}")
        return resume(chosen, texts)
    return start(chosen, _described(chosen, texts, words))


def _described(chosen: Options, texts: Texts, words: Sequence[str]) -> RunConfig:
    if not words and not chosen.config:
        raise BadInput(f"RECIPE is missing; recipes: {', '.join(RECIPES)}")
    base = get(words[0]).config if words else RunConfig()
    config = resolve(base, chosen.config, texts)
    if config.initial != base.initial:
        raise BadInput("initial is written by repertory finetune RUN_DIR --task T: use that")
    return config


def _parse(tokens: Sequence[str]) -> tuple[Options, Texts, list[str]]:
    own = list(settings_of(Options))
    texts, words = scan(tokens, [*own, *settings_of(RunConfig)])
    names = {setting.path for setting in own}
    chosen = options(Options, {path: text for path, text in texts.items() if path in names})
    return chosen, {path: text for path, text in texts.items() if path not in names}, words


def start(chosen: Options, config: RunConfig) -> int:
    """Check a new run as a whole, make its directory, train, and return the exit code."""
    from repertory.run_directory import RunDirectory

    RunDirectory.check_new(chosen.runs_dir, chosen.name or None, force=chosen.force)
    config = _with_experts(config)
    plan = _checked(config, dry_run=chosen.dry_run)
    if chosen.dry_run:
        return 0
    directory = RunDirectory.create(
        chosen.runs_dir, config.recipe, chosen.name or None, force=chosen.force
    )
    lock = directory.lock()
    try:
        directory.write_config(config, _protocol(config, plan))
        return _train(config, directory, resume=False)
    finally:
        lock.release()


def _start_or_resume(chosen: Options, texts: Texts, words: Sequence[str]) -> int:
    """Do what is left of the run called `chosen.name`: all of it, the rest, or nothing."""
    if not chosen.name:
        raise BadInput("--resume auto goes on with the run of a name: give one with --name")
    path = chosen.runs_dir / chosen.name
    # A directory without a config is that of a run that ended before it began.
    if not (path / "config.json").is_file():
        return start(chosen, _described(chosen, texts, words))
    again = chosen.model_copy(update={"resume": path})
    if words and (recipe := _recipe_of(path)) != get(words[0]).config.recipe:
        raise BadInput(f"{path} is a run of recipe '{recipe}', not '{words[0]}': use another name")
    return resume(again, texts)


def _recipe_of(path: Path) -> str:
    from repertory.run_directory import RunDirectory

    return RunDirectory.open(path).read_config()[0].recipe


def resume(chosen: Options, texts: Texts) -> int:
    """Go on with the run in `chosen.resume`; one that has a name too may be done already."""
    from deploy.export.folder import is_exported
    from repertory import checkpoint
    from repertory.run_directory import RunDirectory

    assert chosen.resume is not None
    # Whoever sends one command again and again has a name for the run, and wants no complaints.
    unattended = bool(chosen.name)
    directory = RunDirectory.open(chosen.resume)
    if is_exported(directory.path):
        raise BadInput(
            f"{chosen.resume} is an exported agent, which has nothing to go on learning with: "
            "begin a new run with it by `repertory finetune`"
        )
    before, protocol = directory.read_config()
    config = resolve(before, chosen.config, texts)
    check_resume(before, config)
    done = _steps_done(directory)
    if done >= config.total_steps and unattended:
        print(f"nothing left to train: {done} of {config.total_steps} steps in {chosen.resume}")
        return 0
    if done >= config.total_steps:
        raise BadInput(
            f"nothing left to train: {done} of {config.total_steps} steps; raise --total_steps"
        )
    plan = _checked(config, dry_run=chosen.dry_run)
    now = _protocol(config, plan)
    _warn_of_other_versions(protocol, now)
    if chosen.dry_run:
        return 0
    lock = directory.lock()
    try:
        directory.check_writable(force=chosen.force)
        if config != before:
            directory.write_config(config, now)
        begun = not unattended or bool(checkpoint.list_checkpoints(directory.checkpoints))
        return _train(config, directory, resume=begun)
    finally:
        lock.release()


def _steps_done(directory: RunDirectory) -> int:
    """Return the agent steps of the newest good checkpoint; damage is told of when it is loaded."""
    from repertory import checkpoint

    for path in reversed(checkpoint.list_checkpoints(directory.checkpoints)):
        with contextlib.suppress(checkpoint.CheckpointRefused):
            return int(checkpoint.load(path, only=("counters",))["counters"]["env_steps"])
    return 0


def _checked(config: RunConfig, *, dry_run: bool) -> Plan:
    """Check the config as a whole; print its plan in a dry run."""
    from deploy.preflight import check

    plan = check(config, probe_cluster=not dry_run)
    for warning in plan.warnings:
        print(f"repertory: warning: {warning}", file=sys.stderr)
    if dry_run:
        from deploy.plan_text import plan_text

        print(plan_text(config, plan), end="")
    return plan


def _with_experts(config: RunConfig) -> RunConfig:
    """Open the runs that policies are lent from, if there are any."""
    algorithm = config.algorithm
    if not isinstance(algorithm, SacConfig | Td3Config):
        return config
    from deploy.experts import with_experts

    return with_experts(config)


def _protocol(config: RunConfig, plan: Plan) -> dict[str, Any]:
    from repertory.protocol import describe_protocol

    return describe_protocol(config, [task.name for task in plan.tasks], plan.held_out)


def _warn_of_other_versions(before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = before.get("versions", {}), now["versions"]
    changes = [
        f"{name} {old[name]} -> {new[name]}"
        for name in new
        if name in old and old[name] != new[name]
    ]
    if changes:
        print(
            f"repertory: warning: the run was made with other versions: {', '.join(changes)}",
            file=sys.stderr,
        )


def _train(config: RunConfig, directory: RunDirectory, *, resume: bool) -> int:
    """Hand over to the runtime; its log goes to log.txt, and warnings to the terminal too."""
    from repertory import checkpoint

    root = logging.getLogger()
    shown = TerminalWarnings()
    # What ends the run is printed by the command line.
    shown.addFilter(lambda record: record.name != __name__)
    handlers = [directory.log_handler(), shown]
    level = root.level
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        log.info("%s with %s", "resumed" if resume else "started", " ".join(sys.argv[1:]))
        match config.runtime:
            case "local":
                from deploy.local import train

                code: int = train(config, directory, resume)
            case "cluster":
                from deploy.cluster import train as train_on_cluster

                code = train_on_cluster(config, directory, resume)
    except Exception as failure:
        log.exception("the run ended")
        if isinstance(failure, NumericalFailure):
            from deploy.last_batch import with_batch_kept

            raise with_batch_kept(failure, directory.path) from failure
        raise
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
    where = directory.path
    if code == 0:
        if config.evaluation.at_end:
            _print_scores(config, directory)
        print(f"done: repertory evaluate {where}")
    elif checkpoint.list_checkpoints(directory.checkpoints):
        print(f"stopped: repertory train --resume {where}")
    else:
        print(f"stopped before anything was saved: {where} has no checkpoint to go on from")
    return code


def _print_scores(config: RunConfig, directory: RunDirectory) -> None:
    from deploy.commands.evaluate import score_table
    from deploy.evaluation import newest_scores
    from deploy.table_console import table_console
    from envs.registry import training_tasks

    scores = newest_scores(directory)
    if scores:
        before = config.initial.trained_before
        table_console().print(score_table(scores, set(training_tasks(config)), before))
