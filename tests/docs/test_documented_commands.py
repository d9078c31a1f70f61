"""Every `repertory ...` command in README and documentation is one that the program accepts.

Each is run by the command line itself, in a folder without any run: what is named right gets as
far as finding the run missing, a dry run, or a cluster that is not there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deploy.cli import main
from deploy.commands import SUMMARIES
from deploy.commands.bench import checked, summaries

HOME = Path(__file__).resolve().parents[2]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").rglob("*.md"))]
RUN_MISSING = r"there is no (run directory|directory|checkpoint)|neither a run directory"


def commands_of(text: str) -> list[str]:
    """Return the commands of a page: lines of its blocks, and code within sentences."""
    found = []
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.M | re.S)
    for line in re.sub(r"\\\n\s*", "", "\n".join(blocks)).splitlines():
        if match := re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?repertory\s.*", line):
            found.append(match[0])
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    found += re.findall(r"`((?:\.venv/bin/)?repertory\s[^`]+)`", prose)
    return [words for command in found if (words := as_typed(command))]


def as_typed(command: str) -> str:
    """Return a command's words after the program's name, its placeholders filled in."""
    words = shlex.split(" ".join(command.split()), comments=True)
    while "=" in words[0]:
        words.pop(0)
    filled = {"RECIPE": "quickstart", "N": "1", "T": "atari/breakout/m0d0"}
    if words[1:3] == ["train", "..."]:
        words[2] = "RECIPE"
    words = [word for word in words[1:] if word not in ("...", "$QUICK")]
    return shlex.join(filled.get(word, word) for word in words)


COMMANDS = sorted({words for page in PAGES for words in commands_of(page.read_text("utf-8"))})


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command in an empty folder: exit code and last line said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("seed: 3\n")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")

    def run(*tokens: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(tokens)
        _, error = capsys.readouterr()
        return int(stop.value.code or 0), error.strip().rpartition("\n")[2]

    return run


def test_there_are_commands_of_every_kind_on_the_pages() -> None:
    kinds = {words.split()[0] for words in COMMANDS}
    assert len(COMMANDS) > 60
    assert kinds >= {*SUMMARIES} - {"completion"}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_documented_command_is_accepted(
    said: Callable[..., tuple[int, str]], words: str
) -> None:
    name, *rest = shlex.split(words)
    if not rest:
        assert name in {*SUMMARIES, "--version"}
        return
    match name:
        case "COMMAND":
            code, sentence = said("train", *rest)
            assert code == 0, sentence
        case "bench" if "--help" not in rest and rest != ["NAME"]:
            benchmark, *options = rest
            assert benchmark in summaries()
            _accepted_by_benchmark(benchmark, options)
        case "train" | "submit" | "study" if "--resume" not in rest or "auto" in rest:
            code, sentence = said(name, *rest, "--dry-run")
            assert code == 0, sentence
        case "train" | "finetune" | "evaluate" | "watch" | "export" | "report" | "logs":
            code, sentence = said(name, *rest)
            assert code == 2
            assert re.search(RUN_MISSING, sentence), sentence
        case "status" | "doctor" | "bench":
            code, sentence = said(name, *(word for word in rest if word != "NAME"), "--help")
            assert code == 0, sentence
        case _:
            code, sentence = said(name, *rest)
            assert code == 0, sentence


def test_the_settings_file_on_a_page_is_accepted(said: Callable[..., tuple[int, str]]) -> None:
    Path("suite.yaml").write_text(_yaml_of("add-an-atari-suite"))
    code, sentence = said("train", "single-task", "--config", "suite.yaml", "--dry-run")
    assert code == 0, sentence


def test_a_sweeps_agent_is_understood(said: Callable[..., tuple[int, str]]) -> None:
    sweep = yaml.safe_load(_yaml_of("sweep"))
    given = [
        f"--{name}={value}"
        for name, allowed in sweep["parameters"].items()
        for value in allowed.get("values") or (allowed["min"], allowed["max"])
    ]
    assert len(given) > 6
    program, *words, arguments = sweep["command"]
    assert (program, arguments) == ("repertory", "${args}")
    for flag in given:
        code, sentence = said(*words, flag, "--dry-run")
        assert code == 0, sentence
    code, sentence = said(*words, "--optimiser.learning_rat=1", "--dry-run")
    assert code == 2
    assert "Did you mean 'optimiser.learning_rate'" in sentence


def _yaml_of(page: str) -> str:
    text = (HOME / "docs" / "how-to" / f"{page}.md").read_text("utf-8")
    return re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)[0]


def _accepted_by_benchmark(benchmark: str, options: list[str]) -> None:
    from importlib import import_module

    module = import_module(f"benchmarks.{benchmark}")
    checked(module.Options, options, "")
