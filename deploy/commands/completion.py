"""`repertory completion SHELL`: the script that completes commands, flags and values."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Literal

from deploy.commands import SUMMARIES, Page, parse
from repertory.config import Settings

USAGE = "repertory completion SHELL"


class Options(Settings):
    """Which shell."""

    shell: Literal["bash", "zsh", "tcsh"]
    """The shell to complete in."""


def page() -> Page:
    """Return the help."""
    return Page(
        USAGE, 'Print the script; for bash: eval "$(repertory completion bash)".', (Options,)
    )


def run(tokens: Sequence[str]) -> int:
    """Print the script."""
    from deploy.help import completion

    options = parse(Options, tokens, USAGE, ["shell"])
    pages = {name: import_module(f"deploy.commands.{name}").page() for name in SUMMARIES}
    print(completion(pages, options.shell))
    return 0
