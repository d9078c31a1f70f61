"""A report of a run with very long metrics is quick, and takes little memory and room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from reported_runs import evaluated, reported_run

_SIZE = 100_000_000
_PROGRAM = """
import re, sys, time
from pathlib import Path
from deploy.cli import main
try:
    main(sys.argv[1:])
finally:
    # Not getrusage: its maximum begins with that of the process that this one was forked from.
    most = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    print(int(most[1]) * 1024, time.process_time())
"""


def report(run: Path, out: Path) -> tuple[float, float]:
    """Write a page in a process of its own; return its most memory in bytes, and its seconds of
    processor time, which other work on the machine hardly changes.
    """
    words = ["report", str(run), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words], check=True, capture_output=True, text=True
    )
    memory, seconds = done.stdout.splitlines()[-1].split()
    return float(memory), float(seconds)


@pytest.mark.slow
def test_metrics_of_100_megabytes_are_read_quickly_in_little_memory(tmp_path: Path) -> None:
    tasks = [f"counting/task-{index}" for index in range(50)]
    run = reported_run(tmp_path, "long", tasks=tasks, rows=[])
    evaluated(run, dict.fromkeys(tasks, (1.0, 2.0)), successes=[True, False])
    measures = ("return", "success", "episode_length", "queue", "replay_fill", "lag")
    row = {f"task/{task}/{name}": 0.123456789 for task in tasks for name in measures}
    row |= {f"learner/number_{index}": 1.23456789 for index in range(40)}
    line = json.dumps({"updates": 1, "wall_s": 1.0, **row})[1:]
    written = rows = 0
    with run.metrics.open("w") as stream:
        while written < _SIZE:
            rows += 1
            written += stream.write(f'{{"env_steps": {1_000 * rows}, {line}\n')
    short = reported_run(tmp_path, "short", tasks=tasks)
    least, _ = report(short.path, tmp_path / "short.html")
    out = tmp_path / "long.html"
    memory, seconds = report(run.path, out)
    print(f"{rows} rows: {seconds:.1f} s, {memory / 1e6:.0f} MB, {(memory - least) / 1e6:.0f} more")
    # The file as a whole would be 100 MB more, its rows gigabytes.
    assert memory - least < 50e6
    assert seconds < 60
    assert out.stat().st_size < 1_000_000
    assert "agent steps" in out.read_text()
