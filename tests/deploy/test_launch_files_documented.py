"""Pages on launching: every file has one, every path on them exists, every command is accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from launch_files import DOCKER, HOME, LAUNCH

PAGES = sorted((HOME / "docs" / "deploy").glob("*.md"))
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
COMMANDS = [
    line.split("#")[0].strip()
    for text in TEXTS.values()
    for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
    for line in block.splitlines()
    if re.search(r"repertory (submit|train) |sbatch ", line)
]


@pytest.mark.parametrize("file", sorted([*DOCKER.iterdir(), *LAUNCH.glob("**/*.*")]))
def test_every_launch_file_is_described(file: Path):
    said = "\n".join(TEXTS.values())
    # The entry point is the image's own business.
    assert file.name in said or file.name == "with-ray"


@pytest.mark.parametrize("name", TEXTS)
def test_paths_on_the_pages_exist(name):
    paths = re.findall(r"\bdeploy/(?:docker|launch)/[\w./-]*\w", TEXTS[name])
    paths += [f"docs/deploy/{link}" for link in re.findall(r"\]\((?!\w+:)([^)#]+)", TEXTS[name])]
    for path in paths:
        assert (HOME / path).exists(), path


def test_there_are_commands_on_the_pages():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_on_the_pages_are_accepted(command, line):
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z]+=", word)]
    if words[0] == "sbatch":
        first = next(i for i, word in enumerate(words) if word.endswith("slurm.sbatch"))
        words = ["repertory", "submit", *words[first + 1 :]]
    outcome = command(*words[1:], *(() if "--dry-run" in words else ("--dry-run",)))
    assert outcome.code == 0, outcome.err
    assert outcome.files == []
