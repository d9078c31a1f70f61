"""The commands that make a report again: its runs, evaluations of them, and the page itself."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy import schema
from deploy.report.evaluations import Evaluation
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
    if run.settings.get("initial.masks", "voted") != "voted":
        words += ["--masks", str(run.settings["initial.masks"])]
    words += _checkpoint(Path(run.parent), str(run.settings.get("initial.checkpoint") or ""))
    try:
        parent, _ = RunDirectory.open(Path(run.parent)).read_config()
    except BadInput:
        words += ["--seed", str(run.seed)]
        config = shlex.quote(str(run.path / "config.json"))
        return f"{shlex.join(words)}\n# {run.parent} is not here: other settings are in {config}"
    own = ("recipe", "tasks", "held_out", *(p for p in run.settings if p.startswith("initial.")))
    return shlex.join([*words, *_changes(run.settings, _settings(parent), own)])


def _checkpoint(parent: Path, name: str) -> list[str]:
    """Return the flag of the weights that were taken; none where they are the newest, or an
    exported agent's.
    """
    if "/" in name:
        exported = Path(name).resolve() == parent.expanduser().resolve()
        return [] if exported else ["--checkpoint", name]
    folder = RunDirectory(parent.expanduser()).checkpoints
    if not name or [name] == _kept(folder)[-1:]:
        return []
    return ["--checkpoint", str(parent / folder.name / name)]


def evaluations(run: ReportedRun) -> list[str]:
    """Return the `repertory evaluate` calls behind those of a run's scores that are not its own."""
    by_file: dict[str, list[Evaluation]] = {}
    for one in run.evaluations:
        by_file.setdefault(one.file, []).append(one)
    return [_evaluate(run, found) for found in by_file.values() if not _is_own(run, found)]


def _evaluate(run: ReportedRun, found: Sequence[Evaluation]) -> str:
    words = ["repertory", "evaluate", str(run.path)]
    tasks = list(dict.fromkeys(one.task for one in found))
    if set(tasks) == set(run.held_out):
        words.append("--held-out")
    elif set(tasks) != set(run.tasks):
        words += ["--task", *tasks]
    policies = list(dict.fromkeys(one.policy for one in found))
    words += ["--policy", *policies]
    first = found[0]
    if len(first.returns) != run.settings.get("evaluation.episodes"):
        words += ["--episodes", str(len(first.returns))]
    if first.seed not in (None, run.settings.get("evaluation.seed")):
        words += ["--seed", str(first.seed)]
    kept = _kept(run.path / "checkpoints")
    played = f"step_{first.env_steps:09d}"
    if policies == ["random"] or not kept or played == kept[-1]:
        return shlex.join(words)
    if played in kept:
        return shlex.join([*words, "--checkpoint", str(run.path / "checkpoints" / played)])
    return f"{shlex.join(words)}\n# the weights of then, after {first.env_steps} steps, are gone"


def _is_own(run: ReportedRun, found: Sequence[Evaluation]) -> bool:
    """Whether the run itself evaluates all this, beside training or at its end."""
    settings = run.settings
    tasks = {*run.tasks, *(run.held_out if settings.get("evaluation.held_out") else ())}
    # Beside training fewer may be played than at the end.
    episodes = [settings.get(f"evaluation.{name}") for name in ("episodes", "interim_episodes")]
    policies = [
        policy
        for name in ("policies", "interim_policies")
        for policy in settings.get(f"evaluation.{name}") or ()
    ]
    return bool(
        settings.get("evaluation.at_end") or settings.get("evaluation.every_steps")
    ) and all(
        one.task in tasks
        and one.policy in policies
        and len(one.returns) in episodes
        and one.seed in (None, settings.get("evaluation.seed"))
        for one in found
    )


def _kept(folder: Path) -> list[str]:
    """Return the names of the checkpoints in a folder, the newest last."""
    names = (path.name for path in folder.glob("step_*") if path.is_dir())
    return sorted((n for n in names if n[5:].isdecimal()), key=lambda name: int(name[5:]))


def report_command(
    runs: Sequence[ReportedRun], references: Sequence[ReportedRun], out: Path
) -> str:
    """Return the command line that writes the report again."""
    words = ["repertory", "report", *(str(run.path) for run in runs)]
    if references:
        words += ["--reference", *(str(run.path) for run in references)]
    return shlex.join([*words, "--out", str(out)])


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
