"""Evaluation of a run's weights on any tasks, trained or unseen, and films of single episodes."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from actors.evaluator import TaskScore, play_episodes
from actors.policy import Policy, RandomPolicy
from actors.stacking import RollingStack
from deploy import build
from envs.registry import resolve, task_specs
from repertory import checkpoint
from repertory.config import RunConfig
from repertory.errors import BadInput, RepertoryError
from repertory.seeding import stream
from repertory.types import EpisodeRecord, TaskSpec, Weights, weights_from_state

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)

PolicyName = Literal["greedy", "sampled", "random"]

FILM_STEPS = 1_800
"""Agent steps of a film made beside training: two minutes of play at Atari's 15 a second."""


@dataclass(frozen=True, slots=True)
class Film:
    """One filmed episode, small enough to travel: an MP4 file's bytes."""

    task: str
    mp4: bytes


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
    environment = build.evaluation_environment(config)
    tasks = _specs_like_training(environment, task_names, known)
    scores: list[TaskScore] = []
    for name in policies:
        generator = stream(seed, "evaluation", "policy", name)
        scores += play_episodes(
            _policy(config, known, weights, name, generator),
            tasks,
            build.evaluation_lane(config, tasks, seed),
            episodes=episodes,
            slots=config.evaluation.lanes,
            max_steps=config.evaluation.max_steps,
            policy_name=name,
            should_stop=should_stop,
        )
    return scores


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
    now = datetime.now(UTC)
    environment = build.evaluation_environment(config).environment
    body: dict[str, Any] = {
        "env_steps": step,
        "utc": now.isoformat(timespec="seconds"),
        "seed": seed,
        "protocol": environment.model_dump(mode="json"),
        "scores": [
            asdict(score) | {"mean": score.mean, "trained_on": score.task in trained}
            for score in scores
        ],
    }
    folder = run.evaluations
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{step:012d}-{now:%Y%m%d-%H%M%S-%f}.json"
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(body, indent=1) + "\n")
    partial.rename(path)
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
    if checkpoint_path is None:
        state, _, _ = checkpoint.load_latest(run.checkpoints, only=("weights", "counters"))
    else:
        state = checkpoint.load(checkpoint_path, only=("weights", "counters"))
    return weights_from_state(state["weights"]), int(state["counters"]["env_steps"])


def film(
    config: RunConfig,
    weights: Weights | None,
    task_name: str,
    *,
    policy_name: PolicyName,
    seed: int,
    max_steps: int,
    show: Callable[[np.ndarray], None],
    episode: int = 0,
) -> EpisodeRecord:
    """Play one episode and hand every picture (uint8 [height, width, 3]) to `show`."""
    known = build.tasks_of(config)
    environment = build.evaluation_environment(config)
    (task,) = _specs_like_training(environment, [task_name], known)
    policy = _policy(config, known, weights, policy_name, stream(seed, "film", "policy"))
    lanes = build.evaluation_lane(config, [task], seed)(0, episode)
    rgb = getattr(lanes, "rgb", None)
    if rgb is None:
        raise BadInput(f"task {task_name} has no picture to film")
    started = np.ones(1, np.bool_)
    stack = RollingStack(task.observation, 1)
    stack.push(lanes.reset(), started)
    recurrent = np.zeros((1, policy.recurrent_size), np.float32)
    index = np.array([task.index], np.int32)
    shown_return = 0.0
    show(rgb(0))
    try:
        for _ in range(max_steps):
            decision = policy.act(stack.network_input, index, recurrent, started)
            result = lanes.step(decision.action)
            recurrent, started = decision.recurrent, result.started.copy()
            stack.push(result.observation, result.started)
            shown_return += float(result.reward[0])
            show(rgb(0))
            if result.episodes:
                return result.episodes[0]
        return EpisodeRecord(0, shown_return, max_steps, truncated=True)
    finally:
        lanes.close()


def films_of(
    config: RunConfig, weights: Weights, task_names: Sequence[str], *, seed: int, env_steps: int
) -> list[Film]:
    """Film one episode of `evaluation.videos` tasks, other ones each time until all had a turn."""
    from deploy.video import VideoWriter

    count = min(config.evaluation.videos, len(task_names))
    every = max(1, config.evaluation.every_steps)
    first = (env_steps // every) * count
    frames_per_step = build.tasks_of(config)[0].frames_per_step
    played = [name for name in config.evaluation.policies if name != "random"] or ["greedy"]
    films = []
    for offset in range(count):
        task = task_names[(first + offset) % len(task_names)]
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "film.mp4"
                with VideoWriter(path, fps=60 / frames_per_step) as video:
                    film(
                        config,
                        weights,
                        task,
                        policy_name=played[0],
                        seed=seed,
                        max_steps=FILM_STEPS,
                        show=video.add,
                    )
                films.append(Film(task, path.read_bytes()))
        except (RepertoryError, OSError) as error:
            # Scores and training do not depend on pictures.
            log.warning("no film of %s: %s", task, error)
    return films


def _policy(
    config: RunConfig,
    known: Sequence[TaskSpec],
    weights: Weights | None,
    name: str,
    generator: np.random.Generator,
) -> Policy:
    if name == "random":
        return RandomPolicy(known[0].action, generator)
    if name not in ("greedy", "sampled"):
        raise BadInput(f"unknown policy '{name}'; allowed: greedy, sampled, random")
    if weights is None:
        raise BadInput(f"the {name} policy needs weights")
    policy = build.acting_policy(config, known, generator, greedy=name == "greedy")
    policy.load(weights)
    return policy


def _specs_like_training(
    config: RunConfig, names: Sequence[str], known: Sequence[TaskSpec]
) -> tuple[TaskSpec, ...]:
    # Specs are made together with the training tasks', so that the action set is the network's own
    # (the full 18 when training mixed games) also where a single task would choose fewer actions.
    training = [task.name for task in known]
    unseen = [name for name in names if name not in training]
    together = task_specs([*training, *unseen], config.environment, config.algorithm.discount)
    if together[0].action != known[0].action or together[0].observation != known[0].observation:
        raise BadInput(
            f"{', '.join(unseen)} cannot be played by this network: it was built for "
            f"{known[0].action.size} actions and these tasks together need "
            f"{together[0].action.size}"
        )
    by_name = {task.name: task for task in together}
    return build.with_index([by_name[name] for name in names], known)
