"""docker-compose.yml and the image: valid, closed to others, and in step with the command line."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib

import pytest
from launch_files import (
    COMPOSE,
    DOCKER,
    HOME,
    compose,
    ray_part,
    ray_start_options,
    size,
    train_part,
)

FILES = [COMPOSE, *(DOCKER / f"compose.{name}.yml" for name in ("gpu", "jobs", "metrics"))]
SERVICES = compose()["services"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_compose_files_are_valid_by_the_compose_specification(file):
    check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run([sys.executable, *check], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_docker_compose_itself_accepts_the_files(tmp_path):
    try:
        found = subprocess.run(["docker", "compose", "version"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("docker is not installed")
    if found.returncode:
        pytest.skip("docker has no compose plugin")
    for overlay in ([], *([("-f", str(file))] for file in FILES[1:])):
        words = ["docker", "compose", "-f", str(COMPOSE), *sum(overlay, ()), "config", "--quiet"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_asks_for_the_token_and_reads_it_from_a_secret_file(service):
    environment = SERVICES[service]["environment"]
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert "ray_token" in SERVICES[service]["secrets"]
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_is_in_a_services_environment(service):
    secret = re.compile("TOKEN|KEY|SECRET|PASSWORD")
    for name, value in SERVICES[service]["environment"].items():
        if secret.search(name) and name != "RAY_AUTH_MODE":
            mounted = [f"/run/secrets/{secret}" for secret in SERVICES[service]["secrets"]]
            assert value in mounted, name


def test_no_port_is_published_to_other_machines():
    services = [service for file in FILES for service in compose(file)["services"].values()]
    published = [port for service in services for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any(service.get("network_mode") for service in services)


@pytest.mark.parametrize("service", SERVICES)
def test_containers_run_without_root_on_read_only_code(service):
    settings = SERVICES[service]
    assert settings["user"] == "10001:10001"
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["init"] is True
    assert "privileged" not in settings
    assert {mount.split(":")[0] for mount in settings["tmpfs"]} == {"/tmp", "/home/repertory"}
    assert settings["environment"]["HOME"] == "/home/repertory"


@pytest.mark.parametrize("service", SERVICES)
def test_shared_memory_holds_the_object_store(service):
    options = ray_start_options(ray_part(SERVICES[service]["command"]))
    assert options["object_store_memory"] <= size(SERVICES[service]["shm_size"])


def test_stopping_leaves_time_for_a_checkpoint():
    head = SERVICES["head"]
    assert head["stop_grace_period"] == "60s"
    assert head["environment"]["RAY_JOB_STOP_WAIT_TIME_S"] == "60"


def test_actors_come_back_and_wait_for_a_healthy_head():
    assert SERVICES["actor"]["restart"] == "unless-stopped"
    assert SERVICES["actor"]["depends_on"] == {"head": {"condition": "service_healthy"}}
    assert all("healthcheck" in service for service in SERVICES.values())


def test_ray_parses_what_the_services_start_it_with():
    head = ray_start_options(ray_part(SERVICES["head"]["command"]))
    actor = ray_start_options(ray_part(SERVICES["actor"]["command"]))
    assert head["head"]
    assert actor["address"] == f"{SERVICES['head']['hostname']}:{head['port']}"
    assert (head["labels"], actor["labels"]) == ("role=learner", "role=actor")
    jobs = compose(DOCKER / "compose.jobs.yml")["services"]["head"]["command"]
    assert jobs == ray_part(SERVICES["head"]["command"])


def test_the_heads_command_is_one_that_repertory_accepts(command):
    variables = {"ACTORS": "5", "RECIPE": "atari-breakout-harmony", "RUN": "second"}
    for given in ({}, variables):
        head = compose(variables=given)["services"]["head"]
        words = ["runs" if word == "/runs" else word for word in train_part(head["command"])]
        outcome = command(*words, "--dry-run")
        assert outcome.code == 0, outcome.err
        assert "count: all" in outcome.out
        assert outcome.files == []


def test_one_variable_gives_the_containers_and_the_run_follows_their_cores():
    services = compose(variables={"ACTORS": "7"})["services"]
    assert services["actor"]["deploy"]["replicas"] == 7
    words = services["head"]["command"]
    assert words[words.index("--actors.count") + 1] == "all"
    actor = ray_start_options(ray_part(services["actor"]["command"]))
    head = ray_start_options(ray_part(services["head"]["command"]))
    # A core per container; learner, evaluator and a replay of its own on the head.
    assert (actor["num_cpus"], head["num_cpus"]) == (1, 3)


def test_the_image_ends_without_root_and_holds_every_package():
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.M)
    sources = [source for line in copied for source in line.split()]
    assert set(packages) <= set(sources)
    allowed = re.findall(r"^!(.+)$", (HOME / ".dockerignore").read_text(), re.M)
    for source in sources:
        assert (HOME / source).exists(), source
        assert source.split("/")[0] in allowed, source
    final = text.split("\nFROM ")[-1]
    assert re.findall(r"^USER (.+)$", final, re.M) == ["10001:10001"]
    assert "HEALTHCHECK" in final
    assert "org.opencontainers.image.licenses" in final
    # Nothing secret passes a build: no argument or variable of such a name.
    assert not re.search(r"^(ARG|ENV) .*(TOKEN=|KEY=|PASSWORD)", text, re.M)


def test_secret_files_are_made_once_and_for_their_owner_alone(tmp_path):
    words = [str(DOCKER / "make-secrets"), str(tmp_path / "secrets")]
    environment = {"PATH": "/usr/bin:/bin", "WANDB_API_KEY": "k" * 40}
    first = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    token, key = tmp_path / "secrets" / "ray_token", tmp_path / "secrets" / "wandb_api_key"
    for file in (token, key):
        assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert key.read_text() == "k" * 40
    before = token.read_text()
    assert re.fullmatch("[0-9a-f]{64}", before)
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert token.read_text() == before
    assert "exists and is kept" in again.stderr


def test_whoever_makes_the_secrets_has_a_copy_of_the_token_and_so_has_who_made_them_before(
    tmp_path,
):
    make = [str(DOCKER / "make-secrets"), str(tmp_path / "secrets")]
    subprocess.run(make, capture_output=True, check=True)
    token, mine = tmp_path / "secrets" / "ray_token", tmp_path / "secrets" / "mine" / "ray_token"
    assert re.fullmatch("[0-9a-f]{64}", mine.read_text())
    assert mine.read_text() == token.read_text()
    assert mine.stat().st_uid == os.getuid()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (mine, token)] == [0o400, 0o400]
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    mine.unlink()
    subprocess.run(make, capture_output=True, check=True)
    assert mine.read_text() == token.read_text()


def test_without_arguments_for_ray_the_image_only_runs_the_command():
    words = [str(DOCKER / "with-ray"), "--", "sh", "-c", "echo $0 $1; exit 7", "one", "two words"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "one two words\n")
