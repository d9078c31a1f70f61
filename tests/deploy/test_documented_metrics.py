"""docs/metrics.md names every metric that a run writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from off_policy_runs import pointmass_config
from small_runs import COUNTING_TASKS, atari_config, counting_config, new_run, rows

from deploy import local
from envs.registry import training_tasks
from repertory.config import GuideConfig, RunConfig, SacConfig, Td3Config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def documented() -> set[str]:
    """Return the names in the table; `/x` after a name stands for its last part replaced by x."""
    names: set[str] = set()
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        last = ""
        for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
            last = f"{last.rpartition('/')[0]}{name}" if name.startswith("/") else name
            names.add(last)
    return names


def written(root: Path, config: RunConfig) -> set[str]:
    """Return the names in the rows of a run, tasks and policies by their placeholders."""
    run = new_run(root, config)
    assert local.train(config, run, False) == 0
    names = set()
    for key in {key for row in rows(run) for key in row}:
        for task in (*COUNTING_TASKS, *training_tasks(config)):
            key = key.replace(f"task/{task}/", "task/<task>/")
        names.add(re.sub("^eval/(greedy|sampled|random)/", "eval/<policy>/", key))
    return names


def guided_config(kind: str) -> RunConfig:
    """Return a short guided run in which the policy filter comes to act."""
    guide = GuideConfig(kind="ctpg", step=4, filter_from=5)
    algorithms = {
        "sac": SacConfig(exploration_steps=20, guide=guide),
        "td3": Td3Config(exploration_steps=20, guide=guide.model_copy(update={"block": "success"})),
        "bpt": SacConfig(
            exploration_steps=0,
            guide=GuideConfig(kind="bpt", step=4, trial_every=1, trial_episodes=1),
        ),
    }
    return pointmass_config(algorithms[kind], saved=False, total_steps=600)


AXES = {"env_steps", "frames", "updates", "wall_s"}


@pytest.mark.parametrize("config", [counting_config(), atari_config()])
def test_every_metric_of_a_run_is_documented(tmp_path: Path, config: RunConfig) -> None:
    known = documented() | AXES
    assert "task/<task>/popart_sigma" in known
    assert written(tmp_path, config) <= known


@pytest.mark.parametrize(
    ("kind", "telling"),
    [
        ("sac", {"task/<task>/guide_fallback", "actor/guide_strongest_share", "guide/temperature"}),
        ("td3", {"task/<task>/guide_filtered", "actor/guided", "learner/gradient_norm_critic"}),
        ("bpt", {"task/<task>/guide_trial", "actor/guide_trial"}),
    ],
)
def test_every_metric_of_a_guided_run_is_documented(
    tmp_path: Path, kind: str, telling: set[str]
) -> None:
    names = written(tmp_path, guided_config(kind))
    assert telling <= names
    assert names - documented() - AXES == set()
    matrices = (tmp_path / "run" / "guidance.jsonl").read_text().splitlines()
    assert set(json.loads(matrices[0])) <= documented()
