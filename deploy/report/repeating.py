"""The command that runs a run again: its recipe, its seed, and what else was set."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from deploy import schema
from deploy.report.runs import ReportedRun
from repertory.recipes import RECIPES


def command(run: ReportedRun) -> str:
    """Return the command line that repeats the run, for a shell."""
    recipe = str(run.settings["recipe"])
    if run.parent:
        words = ["repertory", "finetune", run.parent, "--task", *run.tasks]
        words += ["--from-scratch"] if run.from_scratch else []
        return shlex.join([*words, "--seed", str(run.seed)])
    if recipe not in RECIPES:
        config = shlex.quote(str(run.path / "config.json"))
        return f"# the recipe '{recipe}' is not part of this version; its settings are in {config}"
    known = json.loads(json.dumps(schema.flatten(RECIPES[recipe].config.model_dump(mode="json"))))
    words = ["repertory", "train", recipe]
    for path, value in run.settings.items():
        if path != "recipe" and (path == "seed" or known.get(path) != value):
            words += _flag(path, value)
    return shlex.join(words)


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


def report_command(runs: Sequence[ReportedRun]) -> str:
    """Return the command line that writes the report again."""
    return shlex.join(["repertory", "report", *(str(run.path) for run in runs)])
