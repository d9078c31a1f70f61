"""Films made beside training show what those show that are made of the checkpoint afterwards.

Axes: K pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import read
from off_policy_runs import pointmass_config
from small_runs import new_run

from deploy import cluster, local
from deploy.players import PolicyName
from deploy.saved_agent import saved_agent
from deploy.video.films import FILM_STEPS, film
from repertory.config import (
    EvaluationConfig,
    GuideConfig,
    LoggingConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.run_directory import RunDirectory

TASKS = ("pointmass/door", "pointmass/corner")
GUIDE = GuideConfig(kind="ctpg", step=3, filter_from=10, block="temperature", block_every=1)
UNGUIDED = SacConfig(exploration_steps=20)
GUIDED = SacConfig(exploration_steps=20, guide=GUIDE)


def config_of(algorithm: SacConfig | Td3Config, **changes: Any) -> RunConfig:
    # On Ray, actors are ahead of the learner, which shall have made some updates in the end.
    return pointmass_config(
        algorithm,
        saved=False,
        tasks=TASKS,
        total_steps=1_000 if "runtime" in changes else 300,
        evaluation=EvaluationConfig(at_end=True, episodes=1, videos=2),
        logging=LoggingConfig(wandb="disabled", every_s=0.5),
        **changes,
    )


Pictures = np.ndarray
"""uint8 [K, height, width, 3]."""


def filmed(run: RunDirectory, task: str) -> Pictures:
    """Return the film that a run has made of a task."""
    (path,) = run.videos.glob(f"step_*-{task.replace('/', '-')}.mp4")
    return read(path).pictures


def watched(
    run: RunDirectory, task: str, policy: PolicyName, folder: Path, *, with_critic: bool
) -> Pictures:
    """Return the film of the same episode by what is in the last checkpoint."""
    config, _ = run.read_config()
    agent = saved_agent(run, with_critic=with_critic)
    seed, path = config.evaluation.seed, folder / "watched.mp4"
    film(config, agent, [task], path, policy_name=policy, seed=seed, max_steps=FILM_STEPS)
    return read(path).pictures


def distance(first: Pictures, second: Pictures) -> float:
    """Return by how much pixels differ; one film twice in a row is coded a little differently."""
    if first.shape != second.shape:
        return float("inf")
    return float(np.abs(first.astype(np.int16) - second).mean())


def assert_values_are_drawn(run: RunDirectory, folder: Path) -> None:
    for task in TASKS:
        shown = filmed(run, task)
        without = watched(run, task, "greedy", folder, with_critic=False)
        wanted = watched(run, task, "greedy", folder, with_critic=True)
        assert distance(shown, wanted) < 0.1 * distance(shown, without)


def assert_guides_are_drawn(run: RunDirectory, folder: Path) -> None:
    unblocked = saved_agent(run).weights.guided
    assert unblocked is not None
    assert 0 < np.count_nonzero(unblocked) < len(TASKS)
    for task in TASKS:
        shown = filmed(run, task)
        own = watched(run, task, "greedy", folder, with_critic=True)
        wanted = watched(run, task, "guided", folder, with_critic=True)
        assert distance(shown, wanted) < 0.1 * distance(shown, own)


@pytest.mark.parametrize("algorithm", [UNGUIDED, Td3Config(exploration_steps=20)])
def test_runs_whose_actors_hold_no_critic_film_with_values(
    tmp_path: Path, algorithm: SacConfig | Td3Config
) -> None:
    config = config_of(algorithm)
    run = new_run(tmp_path, config)
    local.train(config, run, False)
    assert_values_are_drawn(run, tmp_path)


def test_guided_runs_film_whose_policy_acts(tmp_path: Path) -> None:
    config = config_of(GUIDED)
    run = new_run(tmp_path, config)
    local.train(config, run, False)
    assert_guides_are_drawn(run, tmp_path)


@pytest.mark.slow
def test_an_evaluation_worker_on_ray_has_the_critic_for_its_films(tmp_path: Path) -> None:
    config = config_of(UNGUIDED, runtime="cluster")
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    assert_values_are_drawn(run, tmp_path)


@pytest.mark.slow
def test_an_evaluation_worker_on_ray_knows_who_may_be_guided(tmp_path: Path) -> None:
    config = config_of(GUIDED, runtime="cluster")
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    assert_guides_are_drawn(run, tmp_path)
