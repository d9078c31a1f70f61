"""A foreign package under one of our names stops the program at once, by its path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy import guard


def test_our_own_packages_pass():
    assert guard.foreign_package() is None


@pytest.mark.parametrize("kind", ["package", "module", "folder"])
def test_a_foreign_package_is_named_with_its_path(tmp_path, monkeypatch, kind):
    if kind == "module":
        (tmp_path / "envs.py").write_text("")
    else:
        (tmp_path / "envs").mkdir()
        if kind == "package":
            (tmp_path / "envs" / "__init__.py").write_text("")
    # Our own folder goes, or a bare folder (a namespace package) would come last.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "envs", raising=False)
    monkeypatch.setattr(guard, "NAMES", ("envs",))
    fault = guard.foreign_package()
    assert fault is not None
    assert fault.startswith(f"the package 'envs' comes from {tmp_path / 'envs'}")
    assert str(guard.HOME) in fault


def test_a_missing_package_is_a_fault(monkeypatch):
    monkeypatch.setattr(guard, "NAMES", ("no_such_package_of_ours",))
    fault = guard.foreign_package()
    assert fault is not None
    assert "'no_such_package_of_ours' comes from nowhere" in fault


def test_the_command_line_refuses_to_start_beside_a_foreign_package(command, monkeypatch):
    monkeypatch.setattr(guard, "foreign_package", lambda: "the package 'envs' comes from afar")
    outcome = command("recipes")
    assert outcome.code == 2
    assert outcome.sentence == "the package 'envs' comes from afar"
    assert outcome.out == ""


def test_the_guard_imports_nothing_of_ours():
    source = Path(guard.__file__).read_text()
    lines = [line for line in source.splitlines() if line.startswith(("import", "from"))]
    assert not [line for line in lines if any(f" {name}" in line for name in guard.NAMES)]
