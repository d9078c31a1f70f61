"""The subcommands: one module each, with its options, a `run` and a `page` of help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from deploy.overrides import options, scan
from deploy.schema import settings_of
from repertory.config import Settings
from repertory.errors import BadInput

AnySettings = TypeVar("AnySettings", bound=Settings)

SUMMARIES = {
    "recipes": "what can be run, one line each",
    "tasks": "every task with its variants",
    "train": "run a recipe, or go on with a run",
    "submit": "train as a job of a cluster",
    "status": "a cluster's runs, where their parts are, what its nodes have",
    "logs": "where the logs of a run's workers are, and their last lines",
    "finetune": "pre-trained weights on other tasks, and the baseline from scratch",
    "study": "pre-train, zero-shot, fine-tune, scratch: a whole protocol as a list of jobs",
    "evaluate": "play whole episodes with a run's weights, on any tasks",
    "watch": "film episodes as MP4 or GIF, several tasks in a grid",
    "export": "weights, settings and a model card in a folder to give away",
    "report": "curves, tables and maps of runs as one HTML page",
    "bench": "throughput of the parts and of the whole",
    "doctor": "versions, hardware, cluster, one round trip through every port",
    "completion": "print the shell's completion script",
}
"""Every command with its line of help, in the order they are listed."""


@dataclass(frozen=True, slots=True)
class Page:
    """What the help of a command shows."""

    usage: str
    description: str
    models: tuple[Settings | type[Settings], ...]
    """Classes, or values where the defaults shown are those of the value."""


def parse(
    model: type[AnySettings], tokens: Sequence[str], usage: str, words_to: Sequence[str] = ()
) -> AnySettings:
    """Return a command's options from its part of the command line.

    `words_to` names the fields that take the words without a flag, in order; a list takes the rest.
    """
    texts, words = scan(tokens, settings_of(model))
    fields = {setting.path: setting for setting in settings_of(model)}
    for name in words_to:
        if not words:
            break
        if name in texts:
            raise BadInput(f"{name} is given twice: {words[0]} and {' '.join(texts[name])}")
        taken = len(words) if fields[name].is_list else 1
        texts[name], words = tuple(words[:taken]), words[taken:]
    if words:
        raise BadInput(f"unexpected '{words[0]}'; usage: {usage}")
    for name, setting in fields.items():
        if setting.info.is_required() and name not in texts:
            raise BadInput(f"{name.upper()} is missing; usage: {usage}")
    return options(model, texts)
