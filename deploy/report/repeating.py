"""The command that runs a run again: its recipe, its seed, and what else was set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy import schema
from deploy.report.runs import ReportedRun
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.recipes import RECIPES
from repertory.run_directory import RunDirectory


def command(run: ReportedRun) -> str:
    """Return the command line that repeats the run, for a shell."""
    if run.parent:
        return _fine_tuning(run)
    recipe = str(run.settings["recipe"])
    if recipe not in RECIPES:
        config = shlex.quote(str(run.path / "config.json"))
        return f"# the recipe '{recipe}' is not part of this version; its settings are in {config}"
    words = ["repertory", "train", recipe]
    words += _changes(run.settings, _settings(RECIPES[recipe].config), ("recipe",))
    return shlex.join(words)


def _fine_tuning(run: ReportedRun) -> str:
    """Return the command of a fine-tuned run, or of its baseline from scratch."""
    words = ["repertory", "finetune", run.parent, "--task", *run.tasks]
    if run.from_scratch:
        words.append("--from-scratch")
    elif run.settings.get("initial.reuse", "all") != "all":
        words += ["--reuse", str(run.settings["initial.reuse"])]
    try:
        parent, _ = RunDirectory.open(Path(run.parent)).read_config()
    except BadInput:
        words += ["--seed", str(run.seed)]
        config = shlex.quote(str(run.path / "config.json"))
        return f"{shlex.join(words)}\n# {run.parent} is not here: other settings are in {config}"
    own = ("recipe", "tasks", "held_out", *(p for p in run.settings if p.startswith("initial.")))
    return shlex.join([*words, *_changes(run.settings, _settings(parent), own)])


def report_command(runs: Sequence[ReportedRun]) -> str:
    """Return the command line that writes the report again."""
    return shlex.join(["repertory", "report", *(str(run.path) for run in runs)])


def _settings(config: RunConfig) -> dict[str, Any]:
    """Return settings by dotted path, as they stand in a run's config.json."""
    return schema.flatten(config.model_dump(mode="json"))


def _changes(
    settings: Mapping[str, Any], known: Mapping[str, Any], without: Sequence[str]
) -> list[str]:
    """Return the flags that make `known` the settings; the seed is always one."""
    return [
        word
        for path, value in settings.items()
        if path not in without and (path == "seed" or known.get(path) != value)
        for word in _flag(path, value)
    ]


def _flag(path: str, value: Any) -> list[str]:
    match value:
        case []:
            return [f"--{path}="]
        case list():
            return [f"--{path}", *map(str, value)]
        case bool():
            return [f"--{path}", "true" if value else "false"]
        case _:
            return [f"--{path}={value}" if value in ("", None) else f"--{path}", *_word(value)]


def _word(value: Any) -> list[str]:
    return [] if value in ("", None) else [str(value)]
