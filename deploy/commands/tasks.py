"""`repertory tasks [SUITE]`: every task with its variants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from deploy.commands import Page, parse
from repertory.config import (
    AtariConfig,
    CountingConfig,
    EnvironmentConfig,
    HalfCheetahConfig,
    MetaworldConfig,
    PointMassConfig,
    Settings,
)

USAGE = "repertory tasks [SUITE]"


class Options(Settings):
    """Which tasks."""

    suite: str = ""
    """atari, atari/<game>, atari/<game>/train, atari/<game>/held-out, metaworld/mt10 and other
    suites; empty for the games.
    """


def page() -> Page:
    """Return the help."""
    return Page(USAGE, "List games, or the tasks of a suite, one per line.", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Print a table of games, or the names that a suite stands for."""
    from envs.registry import resolve

    options = parse(Options, tokens, USAGE, ["suite"])
    if options.suite in ("", "atari"):
        for line in _games():
            print(line, flush=True)
        return 0
    match options.suite.split("/")[0]:
        case "metaworld":
            environment: EnvironmentConfig = MetaworldConfig()
        case "halfcheetah":
            environment = HalfCheetahConfig()
        case "pointmass":
            environment = PointMassConfig()
        case "counting":
            environment = CountingConfig()
        case _:
            environment = AtariConfig()
    for name in resolve([options.suite], environment):
        print(name)
    return 0


def _games() -> Iterator[str]:
    """Yield a heading and a line per game, as the emulator has loaded each of them."""
    from envs.atari import catalog, suites

    width = max(len(game) for game in catalog.games()) + len("atari/")
    row = f"{{:{width}}}  {{:>5}}  {{:>8}}  {{:>7}}  {{:13}}  {{}}"
    yield row.format("suite", "tasks", "held out", "actions", "difficulties", "modes")
    for game in catalog.games():
        yield row.format(
            f"atari/{game}",
            len(catalog.variants(game)),
            len(suites.default_held_out(game)),
            len(catalog.minimal_actions(game)),
            _shown(catalog.difficulties(game)),
            _shown(catalog.modes(game)),
        )


def _shown(values: Sequence[int]) -> str:
    """Write an arithmetic progression short, anything else in full unless it is very long."""
    values = sorted(values)
    steps = {b - a for a, b in pairwise(values)}
    if len(values) > 2 and len(steps) == 1:
        (step,) = steps
        return f"{values[0]}–{values[-1]}" + (f" by {step}" if step > 1 else "")
    if len(values) > 12:
        return f"{len(values)} from {values[0]} to {values[-1]}"
    return ", ".join(map(str, values))
