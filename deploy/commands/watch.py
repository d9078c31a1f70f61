"""`repertory watch RUN_DIR --task T`: one episode as MP4, in colour at the screen's own size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from deploy.commands import Page, parse
from deploy.terminal_warnings import warnings_shown
from repertory.config import Positive, Settings
from repertory.errors import BadInput

USAGE = "repertory watch RUN_DIR --task T [--video FILE.mp4] [options]"
_CONSOLE_FPS = 60.0


class Options(Settings):
    """What to film."""

    run_dir: Path
    """Directory of the run."""
    task: str = ""
    """Task to play, trained on or not; without it, the run's first."""
    video: Path | None = None
    """File to write; without it, one in the run's videos/."""
    policy: Literal["greedy", "sampled", "random"] = "greedy"
    """greedy: the likeliest action; sampled: as in training; random: needs no checkpoint."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the episode; without it, the run's evaluation.seed."""
    episode: Annotated[int, Field(ge=0)] = 0
    """Which of the seed's episodes."""
    max_steps: Positive = 4_500
    """Agent steps to film at most (at 15 a second, five minutes of play)."""
    checkpoint: Path | None = None
    """A folder under checkpoints/; without it, the newest good one."""


def page() -> Page:
    """Return the help."""
    return Page(USAGE, "Film one episode; one picture per agent step, at real speed.", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Film, and say what was played."""
    chosen = parse(Options, tokens, USAGE, ["run_dir"])
    from envs.registry import resolve, training_tasks
    from repertory.run_directory import RunDirectory

    directory = RunDirectory.open(chosen.run_dir)
    config, _ = directory.read_config()
    names = resolve([chosen.task], config.environment) if chosen.task else training_tasks(config)
    if chosen.task and len(names) > 1:
        raise BadInput(f"--task {chosen.task} is {len(names)} tasks: name one, such as {names[0]}")
    task = names[0]
    if chosen.checkpoint is not None and not chosen.checkpoint.is_dir():
        raise BadInput(f"there is no checkpoint {chosen.checkpoint}")
    path = chosen.video or directory.videos / f"{task.replace('/', '-')}-{chosen.policy}.mp4"
    if chosen.video is None:
        try:
            directory.videos.mkdir(exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot make {directory.videos}: {error.strerror}") from error

    from deploy.evaluation import film, weights_of
    from deploy.video import VideoWriter

    seed = config.evaluation.seed if chosen.seed is None else chosen.seed
    frames_per_step = getattr(config.environment, "frame_skip", 1)
    with warnings_shown(), VideoWriter(path, fps=_CONSOLE_FPS / frames_per_step) as video:
        weights = None
        if chosen.policy != "random":
            weights, _ = weights_of(directory, chosen.checkpoint)
        record = film(
            config,
            weights,
            task,
            policy_name=chosen.policy,
            seed=seed,
            max_steps=chosen.max_steps,
            show=video.add,
            episode=chosen.episode,
        )
    cut = " (cut)" if record.truncated else ""
    print(f"{task}: return {record.raw_return:g} in {record.length} steps{cut}; {path}")
    return 0
