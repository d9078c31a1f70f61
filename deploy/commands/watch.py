"""`repertory watch RUN --task T ...`: episodes as MP4 or GIF, alone or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from deploy.commands import Page, parse
from deploy.terminal_warnings import warnings_shown
from repertory.config import Positive, Settings
from repertory.errors import BadInput

USAGE = "repertory watch RUN_DIR [--task T ...] [--video FILE.mp4|FILE.gif] [options]"


class Options(Settings):
    """What to film."""

    run_dir: Path
    """Directory of the run, or of an exported agent."""
    task: tuple[str, ...] = ()
    """Tasks to play side by side, trained on or not; without any, the run's first."""
    tasks: tuple[str, ...] = ()
    """Suites of which every task is filmed, side by side with those of --task."""
    video: Path | None = None
    """File to write, MP4 or GIF by its ending; without it, an MP4 in the run's videos/."""
    policy: Literal["greedy", "sampled", "random", "guided"] = "greedy"
    """greedy: the likeliest action; sampled: as in training; guided: as in training, with the
    guide's choice of whose policy acts; random: needs no checkpoint.
    """
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the episodes; without it, the run's evaluation.seed."""
    episode: Annotated[int, Field(ge=0)] = 0
    """Which of the seed's episodes comes first."""
    episodes: Positive = 1
    """Episodes of each task, one after another."""
    max_steps: Positive = 4_500
    """Agent steps of an episode to film at most (at 15 a second, five minutes of play)."""
    panel: bool = True
    """Draw return, success, value, and in guided runs whose policy acts, beside the picture;
    --no-panel films the bare picture.
    """
    scale: Annotated[int, Field(ge=1, le=8)] | None = None
    """Whole number that pictures are enlarged by; without it, as legible panels need."""
    checkpoint: Path | None = None
    """A folder under checkpoints/; without it, the newest good one."""


def page() -> Page:
    """Return the help."""
    return Page(USAGE, "Film whole episodes at real speed, several tasks in one grid.", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Film, and say what was played."""
    chosen = parse(Options, tokens, USAGE, ["run_dir"])
    from deploy.export.folder import open_agent
    from envs.registry import resolve, training_tasks

    directory = open_agent(chosen.run_dir)
    config, _ = directory.read_config()
    asked = (*chosen.task, *chosen.tasks)
    names = resolve(asked, config.environment) if asked else training_tasks(config)[:1]
    if chosen.checkpoint is not None and not chosen.checkpoint.is_dir():
        raise BadInput(f"there is no checkpoint {chosen.checkpoint}")
    path = chosen.video or directory.videos / _film_name(names, chosen.policy)
    if chosen.video is None:
        try:
            directory.videos.mkdir(exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot make {directory.videos}: {error.strerror}") from error

    from deploy.saved_agent import saved_agent
    from deploy.video.films import film
    from deploy.video.writer import VideoWriter

    VideoWriter.check(path)
    with warnings_shown():
        agent = None
        if chosen.policy != "random":
            agent = saved_agent(directory, chosen.checkpoint, with_critic=chosen.panel)
        played = film(
            config,
            agent,
            names,
            path,
            policy_name=chosen.policy,
            seed=config.evaluation.seed if chosen.seed is None else chosen.seed,
            max_steps=chosen.max_steps,
            first_episode=chosen.episode,
            episodes=chosen.episodes,
            panel=chosen.panel,
            scale=chosen.scale,
        )
    for task, records in zip(names, played, strict=True):
        for record in records:
            cut = " (cut)" if record.truncated and record.length >= chosen.max_steps else ""
            success = {True: ", success", False: ", no success", None: ""}[record.success]
            print(
                f"{task}: return {record.raw_return:g} in {record.length} steps{cut}{success}; "
                f"{path}"
            )
    return 0


def _film_name(names: Sequence[str], policy: str) -> str:
    first = names[0].replace("/", "-")
    others = f"-and-{len(names) - 1}-more" if len(names) > 1 else ""
    return f"{first}{others}-{policy}.mp4"
