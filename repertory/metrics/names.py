"""Names of metrics, the same in metrics.jsonl, in W&B and on the terminal. Units are SI."""

from __future__ import annotations

from typing import Final

ENV_STEPS: Final = "env_steps"
"""Agent steps over all tasks: the x-axis."""
FRAMES: Final = "frames"
UPDATES: Final = "updates"
WALL_S: Final = "wall_s"
X_AXES: Final = (ENV_STEPS, FRAMES, UPDATES, WALL_S)

STEPS_PER_S: Final = "actor/steps_per_s"
ACTORS_ALIVE: Final = "health/actors_alive"
ACTOR_RESTARTS: Final = "health/actor_restarts"
DROPPED: Final = "replay/dropped_"
"""Prefix of counters of what the queues dropped; the rest of the name says why."""

TASK: Final = "task/"
RETURN: Final = "return"
LENGTH: Final = "length"
SUCCESS: Final = "success"
EPISODES: Final = "episodes"
LAG: Final = "lag"
QUEUE: Final = "queue"

REPLAY_FILL: Final = "replay_fill"
TEMPERATURE: Final = "temperature"
GUIDED: Final = "guided"
BLOCKED: Final = "blocked"
"""Of a task: 1 where the guide may not act for it."""

GUIDED_SHARE: Final = "actor/guided"
FILTERED_SHARE: Final = "actor/guide_filtered"
STRONGEST_TASK: Final = "actor/guide_strongest_task"
STRONGEST_GUIDE: Final = "actor/guide_strongest_guide"
STRONGEST_SHARE: Final = "actor/guide_strongest_share"
"""The largest share of a task's steps in which one other policy acted; whose, by their indices."""
GUIDE_MAP: Final = "guide/map"
COSINE_MAP: Final = "gradients/cosine"
OVERLAP_MAP: Final = "gradients/overlap"

RETURN_MEAN: Final = "agg/return_mean"
LENGTH_MEAN: Final = "agg/length_mean"
SUCCESS_MEAN: Final = "agg/success_mean"
EPISODES_TOTAL: Final = "agg/episodes"
TASKS_REPORTING: Final = "agg/tasks_reporting"


def task_metric(task: str, metric: str) -> str:
    """Return the name of one task's metric: task/atari/breakout/m0d0/return."""
    return f"{TASK}{task}/{metric}"


def split_task_metric(name: str) -> tuple[str, str] | None:
    """Return (task, metric) of a per-task name, or None for any other name."""
    if not name.startswith(TASK):
        return None
    task, slash, metric = name.removeprefix(TASK).rpartition("/")
    return (task, metric) if slash and task else None
