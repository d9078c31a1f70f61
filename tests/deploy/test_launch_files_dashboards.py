"""The dashboard shows metrics that exist, under the names that the exporter gives them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from launch_files import DOCKER, HOME, LAUNCH, compose

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


def test_prometheus_beside_the_containers_finds_the_list_and_the_token_that_it_is_told_of():
    overlay = compose(DOCKER / "compose.metrics.yml")
    head, prometheus = (overlay["services"][name] for name in ("head", "prometheus"))
    mounts = dict(mount.split(":")[:2] for mount in prometheus["volumes"])
    config = "./deploy/launch/prometheus.yml"
    assert f"--config.file={mounts[config]}" in prometheus["command"]
    (job,) = yaml.safe_load((HOME / config).read_text())["scrape_configs"]
    # The list is in a volume that the head has at the same place, in Ray's own folder.
    folder = str(Path(job["file_sd_configs"][0]["files"][0]).parent)
    assert mounts["ray"] == folder == "/tmp/ray"
    assert head["volumes"] == [f"ray:{folder}"]
    # And both are the containers' user's, who alone reads the token.
    token = Path(job["authorization"]["credentials_file"])
    assert prometheus["secrets"] == [token.name]
    assert str(token.parent) == "/run/secrets"
    user = compose()["services"]["head"]["user"]
    assert prometheus["user"] == user
    assert overlay["volumes"]["ray"]["driver_opts"]["o"].startswith(f"uid={user.split(':')[0]},")


def test_grafana_beside_the_containers_shows_the_dashboard_and_lets_nobody_log_in():
    overlay = compose(DOCKER / "compose.metrics.yml")
    grafana = overlay["services"]["grafana"]
    given = {one["target"]: overlay["configs"][one["source"]] for one in grafana["configs"]}
    contents = {
        Path(file).parent.name: yaml.safe_load(one["content"]) for file, one in given.items()
    }
    (source,) = contents["datasources"]["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    # The dashboard asks for a source of this type, and takes the default one.
    wanted = json.loads((LAUNCH / "grafana.json").read_text())["templating"]["list"][0]
    assert (wanted["type"], wanted["query"], source["isDefault"]) == (
        "datasource",
        source["type"],
        True,
    )
    (provider,) = contents["dashboards"]["providers"]
    mounts = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    assert str(Path(mounts["./deploy/launch/grafana.json"]).parent) == provider["options"]["path"]
    said = grafana["environment"]
    assert said["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert said["GF_AUTH_BASIC_ENABLED"] == "false"
    assert said["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert "cluster" not in grafana["networks"]


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_containers_of_others_run_without_root_too(service):
    settings = compose(DOCKER / "compose.metrics.yml")["services"][service]
    assert not settings["user"].startswith("0")
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]


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
