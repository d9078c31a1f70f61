"""Films of episodes: of any tasks into a file, and of a few tasks beside every evaluation."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import build
from deploy.players import PolicyName
from deploy.saved_agent import SavedAgent, SavedCritic, critic_of
from deploy.video.grid import MOST_TASKS, Grid
from deploy.video.screening import Screening
from deploy.video.writer import VideoWriter
from repertory.config import (
    AtariConfig,
    EnvironmentConfig,
    HalfCheetahConfig,
    MetaworldConfig,
    RunConfig,
)
from repertory.errors import BadInput
from repertory.ports import State
from repertory.types import EpisodeRecord, Weights

log = logging.getLogger(__name__)

FILM_STEPS = 1_800
"""Agent steps of a film made beside training: two minutes of play at Atari's 15 a second."""
_MOST_PICTURES_PER_S = 30.0
_HOLD_S = 1.0
"""For which the end of an episode stays, where panels say how it ended."""


@dataclass(frozen=True, slots=True)
class Film:
    """One filmed episode, small enough to travel: an MP4 file's bytes."""

    task: str
    mp4: bytes


def steps_per_s(environment: EnvironmentConfig) -> float:
    """Return how many agent steps pass in a second of the console's or the world's own time."""
    match environment:
        case AtariConfig():
            return 60.0 / environment.frame_skip
        case MetaworldConfig():
            return 80.0
        case HalfCheetahConfig():
            return 20.0
        case _:
            return 15.0


def film(
    config: RunConfig,
    agent: SavedAgent | None,
    task_names: Sequence[str],
    path: Path,
    *,
    policy_name: PolicyName = "greedy",
    seed: int,
    max_steps: int,
    first_episode: int = 0,
    episodes: int = 1,
    panel: bool = True,
    scale: int | None = None,
) -> list[list[EpisodeRecord]]:
    """Film tasks side by side into an MP4 or GIF file and return every task's episodes.

    At real speed, leaving out steps where that would be more than thirty pictures a second. Tasks
    that are done wait with their last picture for the others.

    Raises:
        BadInput: the file cannot be, tasks cannot be filmed together, or nothing can draw here.
    """
    if len(task_names) > MOST_TASKS:
        raise BadInput(
            f"{len(task_names)} tasks are too many for one film: name at most {MOST_TASKS}"
        )
    every = math.ceil(steps_per_s(config.environment) / _MOST_PICTURES_PER_S)
    rate = steps_per_s(config.environment) / every
    smooth = not isinstance(config.environment, AtariConfig)
    grid = Grid(policy_name, panel=panel, scale=scale, smooth=smooth)
    with VideoWriter(path, fps=rate) as video:
        screening = Screening(
            config,
            agent,
            task_names,
            policy_name=policy_name,
            seed=seed,
            max_steps=max_steps,
            first_episode=first_episode,
            episodes=episodes,
            hold=round(_HOLD_S * rate) if panel else 0,
            valued=panel,
        )
        for moments in screening.moments(every):
            video.add(grid.draw(moments))
    return screening.records


def films_draw_critics(config: RunConfig) -> bool:
    """Whether films beside training want a critic that the weights may lack."""
    return config.evaluation.videos > 0 and build.is_off_policy(config)


def critic_for_films(config: RunConfig, state: Callable[[], State]) -> SavedCritic | None:
    """Return what films of an off-policy run draw the value by, out of the learner's `state`.

    None where nothing is filmed, or actors have what it takes: a critic of theirs, or a value head.
    """
    return critic_of(state()) if films_draw_critics(config) else None


def films_of(
    config: RunConfig,
    weights: Weights,
    task_names: Sequence[str],
    *,
    seed: int,
    env_steps: int,
    critic: SavedCritic | None = None,
) -> list[Film]:
    """Film one episode of `evaluation.videos` tasks, other ones each time until all had a turn.

    A run with a guide is filmed as its rollout workers play, with the guide's choices; any other by
    the first of `evaluation.policies` that is no random play. Values are drawn where the weights or
    the `critic` can tell them. Nothing is raised: scores and training do not depend on pictures.
    """
    count = min(config.evaluation.videos, len(task_names))
    first = config.evaluation.index(env_steps) * count
    agent = SavedAgent(weights, env_steps, f"version {weights.version}", critic)
    films = []
    for offset in range(count):
        task = task_names[(first + offset) % len(task_names)]
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "film.mp4"
                film(
                    config,
                    agent,
                    [task],
                    path,
                    policy_name=_policy_of(config),
                    seed=seed,
                    max_steps=FILM_STEPS,
                )
                films.append(Film(task, path.read_bytes()))
        except Exception as error:  # drivers, encoders and disks fail in ways of their own
            log.warning("no film of %s: %s: %s", task, type(error).__name__, error)
    return films


def _policy_of(config: RunConfig) -> PolicyName:
    """Return how a run's own films are played."""
    if build.guide_of(config) is not None:
        return "guided"
    return next((name for name in config.evaluation.policies if name != "random"), "greedy")
