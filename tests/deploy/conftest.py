"""The command line as a function: arguments in; exit code, output and files out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.cli import main


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str
    files: list[str]
    """Everything below the working directory that was not there before."""

    @property
    def sentence(self) -> str:
        """The one line on stderr, without the program's name; fails when there are more."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("repertory: ")


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Return a function that runs `repertory` in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def run(*tokens: str) -> Outcome:
        before = {str(path) for path in tmp_path.rglob("*")}
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(tokens)
        out, err = capsys.readouterr()
        files = sorted(str(p) for p in tmp_path.rglob("*") if str(p) not in before)
        return Outcome(int(stop.value.code or 0), out, err, files)

    return run
