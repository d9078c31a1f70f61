"""docs/faults.md: every fault has its row, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
PACKAGES = ("repertory", "envs", "actors", "replay", "learner", "deploy")


def table() -> list[list[str]]:
    lines = (HOME / "docs" / "faults.md").read_text().splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:2] == "| "]


def test_every_fault_has_a_row_that_names_its_tests_or_a_reason() -> None:
    numbered = {row[0]: row for row in table() if re.fullmatch(r"F\d+", row[0])}
    assert sorted(numbered, key=lambda name: int(name[1:])) == [f"F{n}" for n in range(1, 31)]
    for name, row in numbered.items():
        assert len(row) == 4, name
        assert "`" in row[3] or "not tested" in row[3], name


def test_every_test_that_the_page_names_exists() -> None:
    there = {
        name
        for file in (HOME / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    named = {name for row in table() for name in re.findall(r"`(test_\w+)`", row[3])}
    assert len(named) > 40
    assert named - there == set()


def test_no_duration_is_taken_from_the_time_of_day() -> None:
    clocks = re.compile(r"\btime\.time\(|\btime_ns\(|datetime\.now\([^)]*\)\s*-")
    used = [
        f"{file.relative_to(HOME)}: {found[0]}"
        for package in PACKAGES
        for file in (HOME / package).rglob("*.py")
        if (found := clocks.search(file.read_text()))
    ]
    assert used == []
