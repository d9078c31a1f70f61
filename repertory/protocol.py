"""What must be known to compare a run's numbers with another's: versions, environment, tasks."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from repertory.config import RunConfig

PACKAGES = ("repertory", "ale-py", "gymnasium", "metaworld", "mujoco", "numpy", "torch", "ray")


def describe_protocol(
    config: RunConfig, tasks: Sequence[str], held_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the protocol block of config.json. `tasks` are resolved names, suites spelled out."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "environment": config.environment.model_dump(mode="json"),
        "tasks": list(tasks),
        "held_out": list(held_out),
    }


def release_of(version: str) -> str:
    """Return a version without its build tag: +cpu and +cu128 are one for different machines."""
    return version.partition("+")[0]


def _versions() -> dict[str, str | None]:
    """Return the installed versions, without importing anything."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _commit() -> str | None:
    """Return the git commit of this source tree, marked if there are changes on top of it."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        described = subprocess.run(
            [
                "git",
                "-C",
                str(here),
                "describe",
                "--always",
                "--abbrev=40",
                "--dirty",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
