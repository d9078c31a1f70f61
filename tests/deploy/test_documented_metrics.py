"""docs/metrics.md names every metric that a run writes."""

from __future__ import annotations

import re
from pathlib import Path

from small_runs import COUNTING_TASKS, atari_config, counting_config, new_run, rows

from deploy import local
from envs.registry import training_tasks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def documented() -> set[str]:
    """Return the names in the table; `/x` after a name stands for its last part replaced by x."""
    names: set[str] = set()
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        last = ""
        for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
            last = f"{last.rpartition('/')[0]}{name}" if name.startswith("/") else name
            names.add(last)
    return names


def test_every_metric_of_a_run_is_documented(tmp_path: Path) -> None:
    known = documented() | {"env_steps", "frames", "updates", "wall_s"}
    assert "task/<task>/popart_sigma" in known
    for number, config in enumerate((counting_config(), atari_config())):
        run = new_run(tmp_path, config, f"run{number}")
        assert local.train(config, run, False) == 0
        for row in rows(run):
            for key in row:
                for task in (*COUNTING_TASKS, *training_tasks(config)):
                    key = key.replace(f"task/{task}/", "task/<task>/")
                key = re.sub("^eval/(greedy|sampled|random)/", "eval/<policy>/", key)
                assert key in known, key
