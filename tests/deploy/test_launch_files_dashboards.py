"""The dashboard shows metrics that exist, under the names that the exporter gives them."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from launch_files import HOME, LAUNCH

from deploy.cluster.exported_metrics import exported

TASKS = ("atari/pong/m0d0", "atari/pong/m0d0/hard", "counting/1")


@pytest.mark.parametrize(
    ("metric", "name", "task"),
    [
        ("task/atari/pong/m0d0/return", "repertory_task_return", "atari/pong/m0d0"),
        ("task/atari/pong/m0d0/hard/return", "repertory_task_return", "atari/pong/m0d0/hard"),
        ("lag/counting/1", "repertory_lag", "counting/1"),
        ("lag/counting/12", "repertory_lag_counting_12", ""),
        ("actor/steps_per_s", "repertory_actor_steps_per_s", ""),
        ("env_steps", "repertory_env_steps", ""),
    ],
)
def test_a_tasks_metric_has_one_name_and_the_task_as_a_label(metric, name, task):
    assert exported(metric, TASKS) == (name, task)


def test_the_dashboard_shows_documented_metrics_only():
    dashboard = json.loads((LAUNCH / "grafana.json").read_text(encoding="utf-8"))
    shown = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_(repertory_\w+)", target["expr"])
    }
    documented = {exported(name, TASKS)[0] for name in documented_names()}
    assert len(shown) >= 6
    assert shown <= documented


def documented_names() -> list[str]:
    """Return the names of docs/metrics.md, where `/success` after `task/<task>/return` is short."""
    text = (HOME / "docs" / "metrics.md").read_text(encoding="utf-8")
    names: list[str] = []
    for name in re.findall(r"`([\w<>/.-]+)`", text.replace("<task>", "counting/1")):
        before = names[-1].rpartition("/")[0] if names else ""
        names.append(before + name if name.startswith("/") else name)
    return names


def test_prometheus_shows_exporters_the_token_from_a_file():
    (job,) = yaml.safe_load((LAUNCH / "prometheus.yml").read_text())["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/ray_token"
    assert job["file_sd_configs"][0]["files"][0].endswith("prom_metrics_service_discovery.json")
