"""deploy/launch/ray-up.yaml: what Ray makes of it, up to the command that starts a container."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from launch_files import DOCKER, HOME, LAUNCH, ray_start_options

RAY_UP = yaml.safe_load((LAUNCH / "ray-up.yaml").read_text(encoding="utf-8"))
IMAGE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
CONSTRAINTS = (HOME / "constraints.txt").read_text(encoding="utf-8")
# The containers' user, and the ssh user of a machine's image.
USER, SSH_USER = 10001, 1000


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """Check a cluster file and fill it in as `ray up` does, without a provider."""
    util = pytest.importorskip("ray.autoscaler._private.util")
    whole: dict[str, Any] = util.prepare_config(copy.deepcopy(config))
    util.validate_config(whole)
    return whole


def docker_run(config: dict[str, Any]) -> list[str]:
    """Return the words with which Ray starts the head's container."""
    docker = pytest.importorskip("ray.autoscaler._private.docker")
    line = docker.docker_start_cmds(
        config["auth"]["ssh_user"],
        config["docker"]["image"],
        config["file_mounts"],
        config["docker"]["container_name"],
        [*config["docker"]["run_options"], *config["docker"]["head_run_options"]],
        config["cluster_name"],
        "/home/repertory",
        "docker",
    )
    return shlex.split(line)


def values(words: list[str], flag: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == flag]


def in_a_mount_namespace(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root of a file tree in which mounts are its own."""
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    if tried.returncode or shutil.which("setpriv") is None:
        pytest.skip("this needs root, mount namespaces and setpriv")
    return subprocess.run(
        ["unshare", "--mount", "bash", "-euc", script, "script", *words],
        capture_output=True,
        text=True,
    )


def test_ray_up_accepts_its_file_and_would_not_accept_a_misspelt_key():
    prepared(RAY_UP)
    wrong = copy.deepcopy(RAY_UP)
    wrong["available_node_types"]["actors"]["max_worker"] = 3
    with pytest.raises(Exception, match="max_worker"):
        prepared(wrong)


def test_the_learner_is_one_machine_and_actors_are_cheap_ones_that_come_and_go():
    types = RAY_UP["available_node_types"]
    learner, actors = types[RAY_UP["head_node_type"]], types["actors"]
    assert (learner["min_workers"], learner["max_workers"]) == (0, 0)
    assert learner["resources"]["GPU"] == 1
    assert actors["min_workers"] == 0
    assert actors["labels"] == {"role": "actor", "ray.io/market-type": "spot"}
    assert actors["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


@pytest.mark.parametrize("part", ["head", "worker"])
def test_every_ray_of_ray_up_asks_for_the_token_and_parses(part):
    line = RAY_UP[f"{part}_start_ray_commands"][-1]
    words = shlex.split(line)
    variables = [word for word in words if re.match(r"\w+=", word)]
    assert "RAY_AUTH_MODE=token" in variables
    assert words[len(variables) : len(variables) + 2] == ["ray", "start"]
    options = ray_start_options(words[len(variables) + 2 :])
    assert options["head"] == (part == "head")
    assert options["dashboard_host"] in ("127.0.0.1", "localhost")


def test_nothing_is_installed_into_the_image_that_the_file_does_not_name():
    config = prepared(RAY_UP)
    for part in ("head_setup_commands", "worker_setup_commands"):
        assert config[part] == []
    # Ray's own would be there otherwise, pip install of another Ray among them.
    shorter = {key: value for key, value in RAY_UP.items() if not key.endswith("setup_commands")}
    assert any("pip install" in line for line in prepared(shorter)["head_setup_commands"])


def test_the_containers_of_ray_up_are_closed_and_have_no_secret_in_their_environment():
    words = docker_run(prepared(RAY_UP))
    assert "--cap-drop=ALL" in words
    assert "--security-opt=no-new-privileges:true" in words
    assert "--privileged" not in words
    assert "RAY_AUTH_MODE=token" in values(words, "-e")
    for variable in values(words, "-e"):
        name, value = variable.split("=", 1)
        secret = re.search("TOKEN|KEY|SECRET", name)
        assert not secret or re.fullmatch("/(run/secrets|home/repertory)/\\w+", value), variable


# A machine as Ray leaves it when it has copied its files: a tree of its own, on which the file's
# commands are run, then a container's mounts are made, and its user looks at what it has.
NODE = """
mount -t tmpfs tmpfs /mnt; cp -a "$1" /mnt/sent
mkdir /mnt/bin; printf '#!/bin/bash\nexec "$@"\n' >/mnt/bin/sudo; chmod 0755 /mnt/bin/sudo
for folder in /tmp /home /run; do mount -t tmpfs tmpfs $folder; chmod 0755 $folder; done
mkdir -p /home/ubuntu "$(dirname "$2")"; mv /mnt/sent "$2"; chown -R "$3:$3" /home/ubuntu "$2"
PATH=/mnt/bin:$PATH; shift 3
while [[ $1 != -- ]]; do bash -euc "$1"; shift; done; shift
user="setpriv --reuid=$1 --regid=$1 --clear-groups"; token=$2; shift 2
for mount in "$@"; do
  IFS=: read -r source target _ <<<"$mount"
  if [[ -d $source ]]; then mkdir -p "$target"; else test -e "$target"; fi
  mount --bind "$source" "$target"
done
$user cat "$token"; echo
$user touch /runs/one
# What the head's autoscaler sends to the machines that it starts.
$user cp -r /run/secrets /mnt/again
stat -c '%a %u' "$token"
"""


def test_the_containers_user_reads_the_token_where_ray_puts_it_and_can_send_it_on(tmp_path):
    made = subprocess.run([DOCKER / "make-secrets", tmp_path / "secrets"], capture_output=True)
    assert made.returncode == 0, made.stderr
    config = prepared(RAY_UP)
    words = docker_run(config)
    ((target, local),) = config["file_mounts"].items()
    mounts = sorted(values(words, "-v"), key=lambda mount: mount.split(":")[1].count("/"))
    # Docker mounts the outer folder first, whatever the order on the line.
    kept = next(mount.split(":")[0] for mount in mounts if mount.split(":")[1] == target)
    variables = dict(variable.split("=", 1) for variable in values(words, "-e"))
    token = variables["RAY_AUTH_TOKEN_PATH"]
    assert token.startswith(f"{target}/")
    done = in_a_mount_namespace(
        NODE,
        *(str(tmp_path / local), kept, str(SSH_USER)),
        *config["initialization_commands"],
        *("--", str(USER), token, *mounts),
    )
    assert done.returncode == 0, done.stderr
    wanted = (tmp_path / "secrets" / "ray_token").read_text()
    assert done.stdout.splitlines() == [wanted, f"400 {USER}"]


def test_a_login_shell_of_the_image_finds_what_is_installed_in_it():
    line = re.search(r"^RUN (echo .* >(/etc/profile\.d/\w+\.sh))$", IMAGE, re.M)
    script = """
    mount -t tmpfs tmpfs /etc/profile.d; mount -t tmpfs tmpfs /opt; mkdir -p /opt/venv/bin
    for name in ray repertory python; do
      printf '#!/bin/sh\n' >/opt/venv/bin/$name; chmod 0755 /opt/venv/bin/$name
    done
    bash -c "$1"
    for name in ray repertory python; do
      env -i HOME=/nowhere "PATH=/opt/venv/bin:$PATH" \
        setpriv --reuid=10001 --regid=10001 --clear-groups bash --login -c "command -v $name"
    done
    """
    done = in_a_mount_namespace(script, line[1])
    assert done.stdout.split() == [
        f"/opt/venv/bin/{name}" for name in ("ray", "repertory", "python")
    ]


def test_the_image_has_what_ray_up_calls_in_a_container():
    final = IMAGE.split("\nFROM ")[-1]
    installed = re.search(r"apt-get install (.*?)&&", final, re.S)[1].split()
    # Files come in by `rsync -e "docker exec"`; the head reaches the others by ssh.
    assert {"rsync", "openssh-client"} <= set(installed)
    # By the tested versions, or pip would change other packages' for it.
    assert 'pip install -c constraints.txt "${PROVIDER}"' in IMAGE
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS, re.M))
    assert {"boto3", "botocore", "s3transfer", "jmespath"} <= pins.keys()
    # What botocore admits.
    assert pins["python-dateutil"].startswith("2.")
    page = (LAUNCH.parents[1] / "docs" / "deploy" / "ray-up.md").read_text(encoding="utf-8")
    assert "--build-arg PROVIDER=boto3" in page
