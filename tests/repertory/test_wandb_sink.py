"""W&B gets the rows when it can, and is never felt by a run when it cannot.

Each case is a process of its own, because wandb reads its settings once and because how a process
ends, with wandb's own exit hook, is half of what is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from wandb_stub import WandbStub

from repertory.metrics.heat_map import heat_map
from repertory.metrics.jsonl import read_rows

RUN = """
import json, logging, sys, time
from pathlib import Path
import numpy as np
from repertory.metrics.fan_out import FanOut
from repertory.metrics.gradient_maps import GradientMap
from repertory.metrics.guidance import GuideMatrix
from repertory.metrics.jsonl import JsonlSink
from repertory.metrics.wandb_sink import WandbSink

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
directory, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
rows, pause = settings.pop("rows"), settings.pop("pause_s", 0.0)
wait, files = settings.pop("wait", True), settings.pop("files", False)
guides = settings.pop("guides", None)
wandb = WandbSink(directory, "run-1", project="p", config={"seed": 7}, group="g", **settings)
sink = FanOut([JsonlSink(directory / "metrics.jsonl"), wandb])
while wait and wandb.resolved == "starting":
    time.sleep(0.02)
if files:
    video = directory / "episode.mp4"
    video.write_bytes(b"no real film")
    wandb.video("video/task", video)
    (directory / "step_000000001").mkdir()
    (directory / "step_000000001" / "state.json").write_text("{}")
    wandb.checkpoint_artifact(directory / "step_000000001")
    wandb.checkpoint_artifact(directory / "step_000000002")
if guides:
    axes = {"env_steps": 2500, "frames": 2500, "updates": 9, "wall_s": 1.5}
    wandb.picture(GuideMatrix(("reach", "push"), 1000, axes, np.array(guides)).picture())
    cosine = np.array([[1.0, -0.25], [-0.25, 1.0]])
    found = GradientMap(("reach", "push"), "actor", 1000, axes, 3, cosine, np.eye(2))
    for picture in found.pictures():
        wandb.picture(picture)
slowest = []
for step in range(rows):
    if step == 5:
        print("going", flush=True)
    if step == 20 and pause:
        sys.stdin.readline()
    start = time.perf_counter()
    sink.write({"env_steps": step, "task/atari/pong/m0d0/return": step / 2, "learner/loss": 1.0})
    slowest.append(time.perf_counter() - start)
    time.sleep(pause)
if pause:
    print("written", flush=True)
    sys.stdin.readline()
start = time.perf_counter()
sink.close()
slowest.sort()
print(json.dumps({"resolved": wandb.resolved, "dropped": wandb.dropped, "failures": sink.failures,
    "write_s": slowest[int(len(slowest) * 0.98)], "close_s": time.perf_counter() - start,
    "imported": "wandb" in sys.modules}), flush=True)
"""


class Run:
    """One process that logs rows; it waits for a line on stdin before row 20 and at the end."""

    def __init__(self, directory: Path, environment: dict[str, str], **settings: Any) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
        home = {"HOME": str(directory), "NETRC": str(directory / "netrc")}
        quiet = {"WANDB_ERROR_REPORTING": "false", "OMP_NUM_THREADS": "1"}
        self.directory = directory
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(directory), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean | home | quiet | environment,
        )

    def until(self, word: str) -> None:
        """Wait for a line."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == word + "\n"

    def go_on(self) -> None:
        """Let it write on, or end."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, timeout: float = 60.0) -> tuple[dict[str, Any], str]:
        """Return what it says of itself and its log, once the process is gone."""
        out, log = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, log
        return json.loads(out.splitlines()[-1]), log

    def rows(self) -> list[int]:
        """Return the steps in metrics.jsonl."""
        return [row["env_steps"] for row in read_rows(self.directory / "metrics.jsonl")]


@pytest.fixture
def stub() -> Iterator[WandbStub]:
    server = WandbStub()
    yield server
    server.down()


def online(stub: WandbStub) -> dict[str, str]:
    return {"WANDB_BASE_URL": stub.url, "WANDB_API_KEY": "0" * 40}


def steps(stub: WandbStub) -> list[int]:
    return [row["env_steps"] for row in stub.rows if "env_steps" in row]


def test_an_outage_in_mid_run_is_not_felt_and_every_row_arrives_afterwards(
    tmp_path: Path, stub: WandbStub
) -> None:
    run = Run(tmp_path, online(stub), mode="auto", rows=60, pause_s=0.02)
    run.until("going")
    stub.down()
    run.go_on()
    run.until("written")
    stub.up()
    run.go_on()
    said, log = run.end()
    assert said["resolved"] == "online"
    assert said["write_s"] < 0.05
    assert said["failures"] == [0, 0]
    assert steps(stub) == run.rows() == list(range(60))
    assert stub.rows[-1]["task/atari/pong/m0d0/return"] == 29.5
    assert json.loads(stub.configs[-1])["seed"]["value"] == 7
    assert "RunResumeStatus" in stub.operations
    assert f"W&B: {stub.url}" in log


def test_matrices_are_shown_as_heat_maps_with_a_legend(tmp_path: Path, stub: WandbStub) -> None:
    guides = [[30, 10], [0, 7]]
    said, _ = Run(tmp_path, online(stub), mode="online", rows=3, guides=guides).end()
    assert said["dropped"] == 0
    (row,) = [row for row in stub.rows if "guide/map" in row]
    shown = row["guide/map"]
    expected = heat_map(np.array([[0.75, 0.25], [0.0, 1.0]]))
    assert row["env_steps"] == 2500
    assert shown["_type"] == "image-file"
    assert (shown["height"], shown["width"]) == expected.shape[:2]
    assert "steps 1,000 to 2,500: 0 reach, 1 push" in shown["caption"]
    (picture,) = tmp_path.glob("wandb/run-*/files/media/images/guide/map_*.png")
    np.testing.assert_array_equal(imageio.imread(picture), expected)
    of_gradients = [row for row in stub.rows if any("gradients/" in name for name in row)]
    (cosine,) = [row["gradients/cosine_actor"] for row in of_gradients[:1]]
    assert cosine["caption"].endswith("red below 0, steps 1,000 to 2,500: 0 reach, 1 push")
    (picture,) = tmp_path.glob("wandb/run-*/files/media/images/gradients/cosine_actor_*.png")
    drawn = imageio.imread(picture)
    np.testing.assert_array_equal(drawn, heat_map(np.array([[1.0, -0.25], [-0.25, 1.0]])))
    assert of_gradients[1]["gradients/overlap_actor"]["_type"] == "image-file"
    assert steps(stub) == [2500, 2500, 2500, 0, 1, 2]


def test_a_server_that_never_comes_back_ends_in_bounded_time(
    tmp_path: Path, stub: WandbStub
) -> None:
    run = Run(tmp_path, online(stub), mode="online", rows=60, pause_s=0.02, finish_timeout_s=3.0)
    run.until("going")
    stub.down()
    run.go_on()
    run.until("written")
    ending = time.monotonic()
    run.go_on()
    said, log = run.end(timeout=60)
    assert time.monotonic() - ending < 15
    assert "did not finish" not in log
    assert said["close_s"] > 2
    assert said["write_s"] < 0.05
    assert run.rows() == list(range(60))


def test_an_unreachable_server_makes_an_offline_run_and_a_full_queue_drops_its_oldest(
    tmp_path: Path, stub: WandbStub
) -> None:
    stub.down()
    run = Run(
        tmp_path, online(stub), mode="auto", rows=200, capacity=50, init_timeout_s=2.0, wait=False
    )
    said, log = run.end()
    assert said["resolved"] == "offline"
    assert said["dropped"] == 150
    assert said["write_s"] < 0.05
    assert time.monotonic() - run.started < 25
    assert "W&B cannot be reached" in log
    assert "150 rows or files were dropped" in log
    assert run.rows() == list(range(200))
    (recorded,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert recorded.stat().st_size > 0


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_without_a_key_a_run_is_offline_with_one_clear_line(tmp_path: Path, mode: str) -> None:
    said, log = Run(tmp_path, {}, mode=mode, rows=10, files=True).end()
    assert (said["resolved"], said["failures"]) == ("offline", [0, 0])
    assert log.count("no W&B key: logging offline to") == 1
    # The checkpoint that is not there is the one thing dropped.
    assert said["dropped"] == 1
    assert "W&B did not take a Checkpoint" in log
    (recorded,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = recorded.read_bytes()
    for text in (b"run-1-checkpoint", b"video/task", b"task/atari/pong/m0d0/return", b"env_steps"):
        assert text in content


def test_a_disk_that_runs_full_pauses_wandb_with_one_warning(tmp_path: Path) -> None:
    said, log = Run(tmp_path, {}, mode="offline", rows=10, minimum_free_bytes=10**18).end()
    assert said["dropped"] == 10
    assert log.count("W&B is paused") == 1


@pytest.mark.parametrize(
    ("mode", "environment"), [("disabled", {}), ("auto", {"WANDB_MODE": "disabled"})]
)
def test_disabled_costs_nothing(tmp_path: Path, mode: str, environment: dict[str, str]) -> None:
    run = Run(tmp_path, environment, mode=mode, rows=10, wait=False)
    said, log = run.end()
    assert said["resolved"] == "disabled"
    assert not said["imported"]
    assert log == ""
    assert not (tmp_path / "wandb").exists()
    assert run.rows() == list(range(10))
