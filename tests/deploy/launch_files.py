"""The files that launch clusters, read for tests: commands, variables, and Ray's own flags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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


def size(text: str) -> int:
    """Return the bytes of 2g, 512m, 2Gi or 512Mi."""
    number, unit = re.fullmatch(r"(\d+)([gmGM])i?", text).groups()  # type: ignore[union-attr]
    return int(number) * {"g": 2**30, "m": 2**20}[unit.lower()]
