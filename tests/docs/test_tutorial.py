"""The tutorial's commands, from first run to export, in the quick form that the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
PAGE = (HOME / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)
SETTING_UP = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)[0]


def run(script: str, folder: Path, **variables: str) -> str:
    """Run a script as a reader does whose PATH is set, and return what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader has run every block of the page."""
    folder = tmp_path_factory.mktemp("tutorial")
    quick = re.search(r'^export QUICK="([^"]*)"$', PAGE, re.M)
    assert quick is not None
    flags = quick[1].replace("\\\n", " ")
    for block in BLOCKS:
        run(block, folder, QUICK=flags, WANDB_MODE="disabled")
    return folder


@pytest.mark.timeout(900)
def test_every_command_of_the_tutorial_does_what_the_page_says(tutorial: Path) -> None:
    commands = [word for block in BLOCKS for word in re.findall(r"^repertory (\w+)", block, re.M)]
    assert commands == ["train", "watch", "evaluate", "finetune", "finetune", "report", "export"]
    held_out = ("breakout-m8d0", "breakout-m24d0", "breakout-m40d1")
    expected = {"first", *(f"{kind}-{task}" for kind in ("tuned", "scratch") for task in held_out)}
    assert {path.name for path in (tutorial / "runs" / "tutorial").iterdir()} == expected
    (film,) = (tutorial / "runs" / "tutorial" / "first" / "videos").glob("*.mp4")
    assert film.stat().st_size > 1_000
    assert (tutorial / "breakout-agent" / "README.md").is_file()


def test_the_tutorials_report_reads_as_the_page_says(tutorial: Path) -> None:
    page = (tutorial / "report.html").read_text(encoding="utf-8")
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert ": 7 runs" in words
    for line in ("quickstart fine-tuned", "quickstart from scratch"):
        assert line in words
    # Curves, and not only what they end in: zero-shot while the first run trains, then greedy play.
    for title in ("Zero-shot return, greedy evaluation", "Return, greedy evaluation"):
        assert title in words, title
    assert re.search(r'href="[^"]*first/videos/[^"]*\.mp4"', page)
    table = words.partition("Fine-tuned, and from scratch")[2]
    for task in ("m8d0", "m24d0", "m40d1"):
        assert f"atari/breakout/{task}" in table


def test_what_sets_the_reader_up_works_where_the_environment_is_there_already(
    tmp_path: Path,
) -> None:
    # The environment that the tests run in was made by the block's first line.
    lines = [line.partition("#")[0].strip() for line in SETTING_UP.splitlines()]
    assert lines[:2] == ["make setup", "export PATH=$PWD/.venv/bin:$PATH"]
    said = run("\n".join([*lines[2:], "complete -p repertory"]), tmp_path)
    assert "round trip" in said
    assert said.rstrip().endswith("repertory")
