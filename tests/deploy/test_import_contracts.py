"""The house's one-way doors hold, and a broken one is noticed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter import api

from deploy import guard

ROOT = guard.HOME


def test_every_import_contract_is_kept():
    # In a process of its own: it switches off the loggers of the process that it runs in.
    lint = "from importlinter import cli; raise SystemExit(cli.lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_of_the_house_is_under_contract():
    options = api.read_configuration(str(ROOT / "pyproject.toml"))
    assert tuple(options["session_options"]["root_packages"]) == guard.NAMES
    under_contract = {
        name.split(".")[0]
        for contract in options["contracts_options"]
        for name in contract["source_modules"]
    }
    assert under_contract == set(guard.NAMES)


def contract_against(package: str) -> dict[str, list[str]]:
    options = api.read_configuration(str(ROOT / "pyproject.toml"))
    (found,) = (c for c in options["contracts_options"] if c["forbidden_modules"] == [package])
    return found


def test_every_part_of_the_vocabulary_but_the_networks_is_kept_free_of_torch():
    parts = {path.stem for path in (ROOT / "repertory").iterdir() if path.name[0] not in "_."}
    free = {name.removeprefix("repertory.") for name in contract_against("torch")["source_modules"]}
    assert free == parts - {"networks"}


def test_only_the_metrics_may_import_wandb():
    contract = contract_against("wandb")
    assert tuple(contract["source_modules"]) == guard.NAMES
    assert contract["ignore_imports"] == ["repertory.metrics.** -> wandb"]


def test_every_requirement_is_pinned_to_the_tested_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=]", text)[0].lower() for text in project["dependencies"]}
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    assert wanted <= {name.lower() for name in pins}


@pytest.mark.parametrize("name", guard.NAMES)
def test_every_package_is_shipped(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert Path(ROOT / name / "__init__.py").is_file()


def test_only_the_composition_root_imports_ray():
    allowed = ROOT / "deploy"
    for name in guard.NAMES:
        for file in (ROOT / name).rglob("*.py"):
            if allowed in file.parents:
                continue
            lines = file.read_text().splitlines()
            assert not [
                line for line in lines if line.strip().startswith(("import ray", "from ray"))
            ]
