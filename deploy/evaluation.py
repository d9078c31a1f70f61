"""Evaluation of a run's weights on any tasks, trained or unseen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.evaluator import TaskScore, play_episodes
from deploy import build
from deploy.evaluation_lanes import (
    evaluation_environment,
    evaluation_lane,
    specs_like_training,
)
from deploy.players import player
from deploy.saved_agent import saved_agent
from envs.registry import held_out_tasks, resolve, training_tasks
from repertory.config import RunConfig
from repertory.durable_files import write_atomically
from repertory.seeding import stream
from repertory.types import Weights

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory


def evaluate_weights(
    config: RunConfig,
    weights: Weights | None,
    task_names: Sequence[str],
    *,
    episodes: int,
    policies: Sequence[str],
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TaskScore]:
    """Play `episodes` episodes of each task under each policy; `random` needs no weights.

    Tasks the network was not trained on are given an index past its last, which conditioning
    treats as unknown: zero-shot evaluation is the same call with other names.
    """
    known = build.tasks_of(config)
    environment = evaluation_environment(config)
    tasks = specs_like_training(environment, task_names, known)
    scores: list[TaskScore] = []
    for name in policies:
        generator = stream(seed, "evaluation", "policy", name)
        scores += play_episodes(
            player(config, known, weights, name, generator),
            tasks,
            evaluation_lane(config, tasks, seed),
            episodes=episodes,
            slots=config.evaluation.lanes,
            max_steps=config.evaluation.max_steps,
            policy_name=name,
            should_stop=should_stop,
        )
    return scores


def evaluate_training(
    config: RunConfig,
    weights: Weights,
    *,
    env_steps: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TaskScore]:
    """Play what a run is to be evaluated on after `env_steps`, beside training or at its end.

    Its own tasks, then those held out where `evaluation.held_out` says so.
    """
    settings = config.evaluation
    episodes, policies = settings.episodes, settings.policies
    if env_steps < config.total_steps:
        episodes = settings.interim_episodes or episodes
        policies = settings.interim_policies or policies
    names = training_tasks(config)
    if settings.held_out:
        names += held_out_tasks(config)
    return evaluate_weights(
        config,
        weights,
        names,
        episodes=episodes,
        policies=policies,
        seed=settings.seed,
        should_stop=should_stop,
    )


def evaluate(
    config: RunConfig,
    run: RunDirectory,
    task_names: Sequence[str],
    *,
    episodes: int,
    policies: Sequence[str],
    seed: int,
    checkpoint_path: Path | None = None,
) -> tuple[list[TaskScore], Path]:
    """Evaluate a checkpoint of `run` (the newest by default) and record the result in the run."""
    names = resolve(task_names, config.environment)
    weights = None
    step = 0
    if any(policy != "random" for policy in policies):
        weights, step = weights_of(run, checkpoint_path)
    scores = evaluate_weights(
        config, weights, names, episodes=episodes, policies=policies, seed=seed
    )
    return scores, record(run, config, scores, step=step, seed=seed)


def record(
    run: RunDirectory, config: RunConfig, scores: Sequence[TaskScore], *, step: int, seed: int
) -> Path:
    """Write scores with the protocol they were taken under to `evaluations/`."""
    trained = {task.name for task in build.tasks_of(config)}
    before = set(config.initial.trained_before) - trained
    now = datetime.now(UTC)
    environment = evaluation_environment(config).environment
    body: dict[str, Any] = {
        "env_steps": step,
        "utc": now.isoformat(timespec="seconds"),
        "seed": seed,
        "protocol": environment.model_dump(mode="json"),
        "scores": [
            asdict(score)
            | {
                "mean": score.mean,
                "trained_on": score.task in trained,
                # Before this run, by the one whose weights it began with: not zero-shot either.
                "trained_before": score.task in before,
            }
            for score in scores
        ],
    }
    folder = run.evaluations
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{step:012d}-{now:%Y%m%d-%H%M%S-%f}.json"
    write_atomically(path, json.dumps(body, indent=1) + "\n")
    return path


def newest_scores(run: RunDirectory) -> list[TaskScore]:
    """Return the scores of the newest evaluation recorded in a run; none without one."""
    files = sorted(run.evaluations.glob("step_*.json"))
    if not files:
        return []
    names = ("task", "policy", "returns", "lengths", "successes", "cut")
    scores = []
    for saved in json.loads(files[-1].read_text())["scores"]:
        fields: dict[str, Any] = {
            name: tuple(saved[name]) if isinstance(saved[name], list) else saved[name]
            for name in names
        }
        scores.append(TaskScore(**fields))
    return scores


def weights_of(run: RunDirectory, checkpoint_path: Path | None = None) -> tuple[Weights, int]:
    """Return the acting weights of a checkpoint and the agent steps they were trained for."""
    agent = saved_agent(run, checkpoint_path)
    return agent.weights, agent.env_steps
