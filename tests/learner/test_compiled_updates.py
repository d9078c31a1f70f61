"""Compiling changes no number, and its absence ends nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("compiled_beside_plain.py")


def compare(algorithm: str, torso: str, **environment: str) -> dict[str, Any]:
    """Run the program and return what it found."""
    path = os.pathsep.join([str(PROGRAM.parent.parent), str(PROGRAM.parent.parent.parent)])
    done = subprocess.run(
        [sys.executable, str(PROGRAM), algorithm, torso],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_without_a_working_compiler_the_update_runs_plain_after_one_warning(
    tmp_path: Path,
) -> None:
    found = compare("vtrace", "mlp", CXX="/no/compiler", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert len(found["warnings"]) == 1
    assert "runs uncompiled" in found["warnings"][0]
    assert "/no/compiler" in found["warnings"][0]
    assert found["weights"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["vtrace", "ppo"])
def test_a_compiled_update_equals_the_plain_one(algorithm: str) -> None:
    found = compare(algorithm, "shallow")
    assert found["warnings"] == []
    assert 0.0 < found["weights"] < 1e-5
    assert found["metrics"] < 1e-3
