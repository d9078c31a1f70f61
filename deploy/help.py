"""Help pages and shell completion, drawn by tyro from the models that the parser checks against."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_origin

import tyro
from pydantic import create_model
from pydantic.fields import FieldInfo

from deploy import schema
from deploy.commands import SUMMARIES, Page
from repertory.config import Settings

SHELLS = ("bash", "zsh", "tcsh")
_STYLE = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)


def overview() -> str:
    """Return the page that lists the commands."""
    width = max(map(len, SUMMARIES))
    lines = [f"  {name:{width}}  {summary}" for name, summary in SUMMARIES.items()]
    return "\n".join(
        [
            "usage: repertory COMMAND [options]",
            "",
            "Multi-task reinforcement learning with many actors and one learner.",
            "",
            *lines,
            "",
            "repertory COMMAND --help lists a command's options; --debug shows tracebacks.",
        ]
    )


def show(page: Page) -> None:
    """Print a command's page: usage, then every option with its default and line of help."""
    with contextlib.suppress(SystemExit):
        tyro.cli(
            _flat(page, "Help"),
            prog=_program(page),
            description=page.description,
            args=["--help"],
            use_underscores=True,
            config=_STYLE,
        )


def completion(pages: Mapping[str, Page], shell: str) -> str:
    """Return the completion script of all commands for a shell."""
    commands: Any = tuple(
        Annotated[_flat(page, name), tyro.conf.subcommand(name, description=SUMMARIES[name])]
        for name, page in pages.items()
    )
    either: Any = Union[commands]  # noqa: UP007 (built at run time)
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        tyro.cli(
            either,
            prog="repertory",
            args=["--tyro-print-completion", shell],
            use_underscores=True,
            config=_STYLE,
        )
    return script.getvalue()


def _program(page: Page) -> str:
    """Return the page's usage without what tyro adds by itself: words and `[OPTIONS]`."""
    program = page.usage.replace(" [options]", "")
    for model in page.models:
        kind = type(model) if isinstance(model, Settings) else model
        for field, info in kind.model_fields.items():
            if info.is_required():
                program = program.partition(f" {field.upper()}")[0]
    return program


def _flat(page: Page, name: str) -> Any:
    """Return one model with the options of all the page's models at the top level."""
    fields: dict[str, Any] = {}
    for number, model in enumerate(page.models):
        if isinstance(model, Settings):
            fields[f"part{number}"] = (
                Annotated[type(model), tyro.conf.arg(name="")],
                _with_all_kinds(model),
            )
        else:
            fields.update(
                {field: (_shown(field, info), info) for field, info in model.model_fields.items()}
            )
    return create_model(name, __base__=Settings, **fields)


def _shown(field: str, info: FieldInfo) -> Any:
    """Return a field's type; what must be given is a word and not a flag."""
    kind: Any = info.annotation
    if not info.is_required():
        return kind
    named = None if get_origin(kind) is Literal else field.upper()
    return Annotated[kind, tyro.conf.Positional, tyro.conf.arg(metavar=named)]


def _with_all_kinds(settings: Settings) -> Settings:
    """Return the same values with discriminators whose help names every kind they can have."""
    replaced: dict[str, Any] = {}
    for path, classes in schema.discriminators(type(settings)).items():
        part, discriminator = path.split(".")
        value: Settings = getattr(settings, part)
        choice: Any = (Literal[tuple(classes)], getattr(value, discriminator))
        wide = create_model(
            type(value).__name__,
            __base__=type(value),
            __doc__=f"{type(value).__doc__} Another {discriminator} has other settings.",
            **{discriminator: choice},
        )
        replaced[part] = wide.model_construct(**dict(value))
    return settings.model_copy(update=replaced)
