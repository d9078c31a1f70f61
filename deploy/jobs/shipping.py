"""What a job takes along: the packages and the YAML files it was given, and nothing else.

A checkout also holds runs, videos and secrets; what is to travel is therefore named, not what is
to stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from deploy.guard import HOME, NAMES
from repertory.errors import BadInput

ALONG = ("pyproject.toml", "constraints.txt", "README.md")
LARGEST_BYTES = 50_000_000
"""Code is a few megabytes; more than this is a file that lies in a package by mistake."""
CONFIGS = "submitted"


def stage(folder: Path, configs: Sequence[Path], home: Path = HOME) -> list[str]:
    """Copy what a job needs into `folder`; return the YAML files' paths as the job sees them.

    Where Repertory is installed and not a source tree, the cluster's own installation is used.
    """
    if (home / "pyproject.toml").is_file():
        for name in NAMES:
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(home / name, folder / name, ignore=ignored)
        for name in ALONG:
            if (home / name).is_file():
                shutil.copy(home / name, folder / name)
    paths = []
    for number, file in enumerate(configs):
        (folder / CONFIGS).mkdir(exist_ok=True)
        paths.append(f"{CONFIGS}/{number}-{file.name}")
        shutil.copy(file, folder / paths[-1])
    total = size(folder)
    if total > LARGEST_BYTES:
        largest = max(_files(folder), key=lambda file: file.stat().st_size)
        raise BadInput(
            f"the packages are {total / 1e6:.0f} MB, too much to ship with every job (at most "
            f"{LARGEST_BYTES / 1e6:.0f}): the largest file is {largest.relative_to(folder)}"
        )
    return paths


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in _files(folder))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
