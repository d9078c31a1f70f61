"""`repertory bench NAME`: runs one of the benchmarks that lie beside the packages."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model

from deploy import guard
from deploy.commands import Page, parse
from repertory.config import Positive, PositiveFloat, Settings
from repertory.errors import BadInput, did_you_mean

USAGE = "repertory bench NAME [its own options]"
FOLDER = guard.HOME / "benchmarks"


class Options(Settings):
    """Which benchmark."""

    name: str
    """One of those listed above; NAME --help lists its own options."""


def page() -> Page:
    """Return the help."""
    listed = "; ".join(f"{name}: {summary}" for name, summary in summaries().items())
    return Page(USAGE, f"Benchmarks: {listed or 'none here'}", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Hand the rest of the command line to the benchmark's `main`."""
    known = summaries()
    if not known:
        raise BadInput(f"there are no benchmarks in {FOLDER}: they come with the source tree")
    if not tokens:
        raise BadInput(f"NAME is missing; benchmarks: {', '.join(known)}")
    name, *rest = tokens
    if name not in known:
        raise BadInput(
            f"unknown benchmark '{name}'.{did_you_mean(name, known)} Benchmarks: {', '.join(known)}"
        )
    module = import_module(f"benchmarks.{name}")
    if dataclasses.is_dataclass(getattr(module, "Options", None)) and not {"-h", "--help"} & {
        *rest
    }:
        rest = checked(module.Options, rest, f"repertory bench {name} [options]")
    try:
        code = module.main(rest)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        given = f"{where}: {first['msg']}, got {first['input']!r}"
        raise BadInput(given if where else first["msg"].removeprefix("Value error, ")) from error
    return int(code or 0)


def checked(options: type[Any], tokens: Sequence[str], usage: str) -> list[str]:
    """Return a benchmark's options as its own parser reads them; BadInput for the first mistake.

    `options` is its dataclass. The numbers in it are sizes, counts and seconds: all above 0.
    """
    types: dict[Any, Any] = {int: Positive, float: PositiveFloat}
    hints = get_type_hints(options)
    fields: dict[str, Any] = {
        field.name: (types.get(hints[field.name], hints[field.name]), field.default)
        for field in dataclasses.fields(options)
    }
    chosen = parse(create_model("Options", __base__=Settings, **fields), tokens, usage)
    read: list[str] = []
    for name, value in chosen:
        read += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return read


def summaries() -> dict[str, str]:
    """Return the benchmarks with their opening sentence, without importing them.

    A benchmark is a module whose `main` takes the rest of the command line.
    """
    found = {}
    for file in sorted(FOLDER.glob("[!_]*.py")):
        module = ast.parse(file.read_text(encoding="utf-8"))
        functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
        if any(function.name == "main" and function.args.args for function in functions):
            found[file.stem] = (ast.get_docstring(module) or "").split("\n")[0].rstrip(".")
    return found
