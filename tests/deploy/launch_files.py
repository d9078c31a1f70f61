"""The files that launch clusters, read for tests: commands, variables, and Ray's own flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HOME = Path(__file__).resolve().parents[2]
COMPOSE = HOME / "docker-compose.yml"
DOCKER = HOME / "deploy" / "docker"
LAUNCH = HOME / "deploy" / "launch"


def compose(path: Path = COMPOSE, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a compose file with ${NAME:-default} filled in, as compose fills it in."""

    def fill(found: re.Match[str]) -> str:
        return (variables or {}).get(found[1]) or found[2]

    text = re.sub(r"\$\{(\w+):-([^}]*)\}", fill, path.read_text(encoding="utf-8"))
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def ray_part(words: Sequence[str]) -> list[str]:
    """Return what comes before `--`: the arguments of `ray start`."""
    return list(words[: words.index("--")] if "--" in words else words)


def train_part(words: Sequence[str]) -> list[str]:
    """Return what comes after `-- repertory`."""
    command = list(words[words.index("--") + 1 :])
    assert command[0] == "repertory", command
    return command[1:]


def ray_start_options(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of `ray start` as Ray itself parses them; it exits at what it refuses."""
    from ray.scripts.scripts import start

    return dict(start.make_context("start", list(words)).params)


@dataclass(frozen=True)
class HeadSettings:
    """How a launch file starts the head of its cluster."""

    arguments: Sequence[str]
    """What follows `ray start`, each flag with its value in one word."""
    variables: Mapping[str, str]


def head_settings() -> dict[str, HeadSettings]:
    """Return the settings of every launch file's head, by the file's name."""
    service = compose()["services"]["head"]
    settings = {"compose": HeadSettings(ray_part(service["command"]), service["environment"])}

    ray_up = yaml.safe_load((LAUNCH / "ray-up.yaml").read_text(encoding="utf-8"))
    words = shlex.split(ray_up["head_start_ray_commands"][-1])
    begins = words.index("ray")
    given = [option.removeprefix("-e ") for option in ray_up["docker"]["run_options"]]
    variables = dict(word.split("=", 1) for word in (*given, *words[:begins]) if word[0] != "-")
    # The autoscaler wants a file of the provider's.
    arguments = [word for word in words[begins + 2 :] if "autoscaling-config" not in word]
    settings["ray-up"] = HeadSettings(arguments, variables)

    manifest = yaml.safe_load((LAUNCH / "kuberay" / "cluster.yaml").read_text(encoding="utf-8"))
    head = manifest["spec"]["headGroupSpec"]
    (container,) = head["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    # What the operator makes of `authOptions`.
    variables["RAY_AUTH_MODE"] = manifest["spec"]["authOptions"]["mode"]
    arguments = [f"--{flag}={value}" for flag, value in head["rayStartParams"].items()]
    settings["kuberay"] = HeadSettings(["--head", *arguments], variables)

    text = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8")
    exported = " ".join(re.findall(r"^export (.*)$", text, re.M))
    variables = dict(re.findall(r"\b((?!PATH)\w+)=(\w+)", exported))
    # What `ray symmetric-run` makes of its arguments on the first node.
    settings["slurm"] = HeadSettings(["--head", "--labels=role=learner", "--num-cpus=4"], variables)
    return settings


def size(text: str) -> int:
    """Return the bytes of 2g, 512m, 2Gi or 512Mi."""
    number, unit = re.fullmatch(r"(\d+)([gmGM])i?", text).groups()  # type: ignore[union-attr]
    return int(number) * {"g": 2**30, "m": 2**20}[unit.lower()]
