"""Every launch file: Ray's store fits into shared memory, and a silent node is missed soon."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import yaml
from launch_files import LAUNCH, compose, ray_part, ray_start_options, size

HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}


@dataclass(frozen=True)
class Node:
    """One kind of node of one file."""

    store: int
    """Bytes of Ray's object store there; Ray alone would take 30 % of the memory."""
    shared: int | None
    """Bytes of /dev/shm, None for the machine's own: where it is too small, Ray uses the disk."""
    memory: int | None = None
    """Bytes that the container may have, /dev/shm among them."""
    variables: Mapping[str, str] = field(default_factory=dict)


def of_compose() -> dict[str, Node]:
    nodes = {}
    for name, service in compose()["services"].items():
        options = ray_start_options(ray_part(service["command"]))
        nodes[f"compose {name}"] = Node(
            options["object_store_memory"],
            size(service["shm_size"]),
            variables=service["environment"],
        )
    return nodes


def of_ray_up() -> dict[str, Node]:
    config = yaml.safe_load((LAUNCH / "ray-up.yaml").read_text(encoding="utf-8"))
    (shared,) = [
        size(option.removeprefix("--shm-size="))
        for option in config["docker"]["run_options"]
        if option.startswith("--shm-size=")
    ]
    nodes = {}
    for part in ("head", "worker"):
        words = shlex.split(config[f"{part}_start_ray_commands"][-1])
        variables = dict(word.split("=", 1) for word in words[: words.index("ray")])
        options = ray_start_options(words[words.index("start") + 1 :])
        nodes[f"ray-up {part}"] = Node(options["object_store_memory"], shared, variables=variables)
    return nodes


def of_kuberay() -> dict[str, Node]:
    text = (LAUNCH / "kuberay" / "cluster.yaml").read_text(encoding="utf-8")
    spec = yaml.safe_load(text)["spec"]
    groups = {"head": spec["headGroupSpec"]}
    groups |= {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    nodes = {}
    for name, group in groups.items():
        options = ray_start_options(
            [f"--{key}={value}" for key, value in group["rayStartParams"].items()]
        )
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        (volume,) = [
            mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm"
        ]
        (shared,) = [one["emptyDir"] for one in pod["volumes"] if one["name"] == volume]
        assert shared["medium"] == "Memory"
        nodes[f"kuberay {name}"] = Node(
            options["object_store_memory"],
            size(shared["sizeLimit"]),
            size(container["resources"]["limits"]["memory"]),
            {variable["name"]: variable["value"] for variable in container["env"]},
        )
    return nodes


def of_slurm() -> dict[str, Node]:
    text = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8").replace("\\\n", " ")
    words = shlex.split(re.search(r"(--address .*?) -- ", text)[1])
    chosen = words[words.index("--object-store-memory") + 1]
    store = re.search(rf"^{chosen[1:]}=\$\{{\w+:-(\d+)\}}$", text, re.M)[1]
    variables = dict(re.findall(r"\b(RAY_\w+)=(\d+)", text))
    return {"slurm": Node(int(store), None, variables=variables)}


NODES = of_compose() | of_ray_up() | of_kuberay() | of_slurm()


@pytest.mark.parametrize("name", NODES)
def test_shared_memory_holds_the_object_store_of_every_file(name):
    node = NODES[name]
    assert node.store is not None, "Ray would take 30 % of the machine's memory"
    if node.shared is not None:
        assert node.store <= node.shared
    if node.memory is not None:
        assert node.shared <= node.memory / 2


@pytest.mark.parametrize("name", ["compose head", "ray-up head", "kuberay head", "slurm"])
def test_every_head_misses_a_silent_node_after_seconds(name):
    assert HEALTH.items() <= NODES[name].variables.items()
