"""`repertory bench NAME`: runs one of the benchmarks that lie beside the packages."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib import import_module

from deploy import guard
from deploy.commands import Page
from repertory.config import Settings
from repertory.errors import BadInput, did_you_mean

USAGE = "repertory bench NAME [its own options]"
FOLDER = guard.HOME / "benchmarks"


class Options(Settings):
    """Which benchmark."""

    name: str
    """One of those listed above."""


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
    code = import_module(f"benchmarks.{name}").main(rest)
    return int(code or 0)


def summaries() -> dict[str, str]:
    """Return the benchmarks with their opening sentence, without importing them.

    A benchmark is a module whose `main` takes the rest of the command line.
    """
    found = {}
    for file in sorted(FOLDER.glob("[!_]*.py")):
        module = ast.parse(file.read_text(encoding="utf-8"))
        functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
        if any(function.name == "main" and function.args.args for function in functions):
            found[file.stem] = (ast.get_docstring(module) or "").split("\n")[0]
    return found
