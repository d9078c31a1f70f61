"""The `repertory` command: finds the subcommand, and turns every failure into one line.

Exit codes: 0 done, 2 bad input, 3 an environment failed, 4 numbers were not finite, 5 the cluster
failed, 130 and 143 ended by a signal after a checkpoint, 1 anything else.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from deploy import guard, process_end


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line `argv` (without the program's name) and exit with its code."""
    if (fault := guard.foreign_package()) is not None:
        print(f"repertory: {fault}", file=sys.stderr)
        sys.exit(2)
    tokens = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in tokens
    if argv is None:
        process_end.belongs_to_command()
    process_end.end(_run([token for token in tokens if token != "--debug"], debug=debug))


def _run(tokens: list[str], *, debug: bool) -> int:
    from repertory.errors import RepertoryError

    try:
        return _dispatch(tokens)
    except KeyboardInterrupt:
        print("repertory: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RepertoryError as error:
        if debug:
            traceback.print_exc()
        print(f"repertory: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        hint = "" if debug else " (run it again with --debug for the traceback)"
        print(f"repertory: {type(error).__name__}: {_one_line(error)}{hint}", file=sys.stderr)
        return 1


def _dispatch(tokens: list[str]) -> int:
    from deploy.commands import SUMMARIES
    from repertory.errors import BadInput, did_you_mean

    if not tokens or tokens[0] in ("-h", "--help", "help"):
        from deploy.help import overview

        print(overview())
        return 0
    if tokens[0] == "--version":
        from repertory import __version__

        print(f"repertory {__version__}")
        return 0
    name, *rest = tokens
    if name not in SUMMARIES:
        raise BadInput(
            f"unknown command '{name}'.{did_you_mean(name, SUMMARIES)} "
            f"Commands: {', '.join(SUMMARIES)}"
        )
    command = import_module(f"deploy.commands.{name}")
    named = bool(rest) and not rest[0].startswith("-")
    # A benchmark has options, and help, of its own.
    if ("-h" in rest or "--help" in rest) and not (named and name == "bench"):
        from deploy.help import show

        show(command.page(rest[0]) if named and name == "train" else command.page())
        return 0
    code: int = command.run(rest)
    return code


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
