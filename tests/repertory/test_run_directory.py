"""A run directory is made once, locked while in use, never overwritten, and holds no secrets."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from small_disk import SmallDisk

from repertory.config import AtariConfig, RunConfig
from repertory.errors import BadInput
from repertory.metrics.jsonl import read_rows
from repertory.protocol import describe_protocol
from repertory.run_directory import RunDirectory


def test_a_run_gets_a_name_of_recipe_time_and_hex_and_its_folders(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs", "quickstart")
    assert re.fullmatch(r"quickstart-\d{8}-\d{6}-[0-9a-f]{4}", run.name)
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoints",
        "evaluations",
        "videos",
    ]
    assert RunDirectory.create(tmp_path / "runs", "quickstart").path != run.path


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "quickstart", "mine")
    (run.path / "precious").write_text("results")
    with pytest.raises(BadInput, match=r"mine exists.*--resume .*mine or give another name"):
        RunDirectory.create(tmp_path, "quickstart", "mine")
    assert (run.path / "precious").read_text() == "results"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a..b", "x" * 200, "a b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="run name"):
        RunDirectory.create(tmp_path / "runs", "quickstart", name)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_refused_before_anything_is_made_unless_forced(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with pytest.raises(BadInput, match=r"GB free and a run wants .* or start with --force"):
        RunDirectory.create(root, "quickstart", minimum_free_bytes=10**18)
    assert not root.exists()
    run = RunDirectory.create(root, "quickstart", minimum_free_bytes=10**18, force=True)
    with pytest.raises(BadInput, match="GB free and a run wants"):
        run.check_writable(minimum_free_bytes=10**18)
    run.check_writable(minimum_free_bytes=10**18, force=True)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Where the kernel itself refuses: /proc takes no directories, from root either."""
    with pytest.raises(BadInput, match="cannot create run directories in /proc/runs"):
        RunDirectory.create(Path("/proc/runs"), "quickstart", minimum_free_bytes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="file is not a directory"):
        RunDirectory.create(tmp_path / "file", "quickstart")


READ_ONLY = """
import os, sys
from pathlib import Path
from repertory.errors import BadInput
from repertory.run_directory import RunDirectory
if os.getuid() == 0:
    os.setuid(65534)
for path in sys.argv[1:]:
    try:
        RunDirectory(Path(path)).check_writable(force=True)
    except BadInput as error:
        print(error)
"""


def test_a_run_directory_that_is_read_only_or_closed_is_refused_for_resume() -> None:
    """In a process without root's rights, which no mode bits hold back."""
    with tempfile.TemporaryDirectory() as place:
        closed = Path(place) / "closed" / "run"
        closed.mkdir(parents=True)
        Path(place).chmod(0o555)
        closed.parent.chmod(0o000)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, place, str(closed)],
            capture_output=True,
            text=True,
            check=True,
        )
        closed.parent.chmod(0o700)
        Path(place).chmod(0o700)
    first, second = done.stdout.splitlines()
    assert first == f"cannot write to the run directory {place}: Permission denied"
    assert second == f"cannot use {closed}: Permission denied"


def test_config_and_protocol_come_back(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "quickstart")
    config = RunConfig(
        seed=7,
        tasks=("atari/pong/m0d0", "atari/pong/m0d1"),
        environment=AtariConfig(full_action_space=True, repeat_action_probability=0.1),
    )
    protocol = describe_protocol(config, config.tasks, ["atari/pong/m0d2"])
    run.write_config(config, protocol)
    assert RunDirectory.open(run.path).read_config() == (config, protocol)
    assert protocol["tasks"] == ["atari/pong/m0d0", "atari/pong/m0d1"]
    assert protocol["held_out"] == ["atari/pong/m0d2"]
    assert protocol["environment"]["repeat_action_probability"] == 0.1
    for package in ("python", "repertory", "ale-py", "gymnasium", "torch", "numpy"):
        assert re.match(r"\d+\.\d+", protocol["versions"][package])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged"),
        ('{"format": 1, "config"', "is damaged"),
        ("[]", "is not the config of a run"),
        ('{"format": 9, "config": {}, "protocol": {}}', "has format 9; this version reads 1"),
        (
            '{"format": 1, "config": {"sead": 1}, "protocol": {}}',
            "sead is no setting of this version",
        ),
        ('{"format": 1, "config": {"actors": {"count": 0}}, "protocol": {}}', r"actors\.count: "),
    ],
)
def test_a_bad_config_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    run = RunDirectory.create(tmp_path, "quickstart")
    (run.path / "config.json").write_text(content)
    with pytest.raises(BadInput, match=words) as refused:
        RunDirectory.open(run.path).read_config()
    assert "\n" not in str(refused.value)


def test_opening_what_is_no_run_says_so_and_names_the_runs_beside_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no run directory"):
        RunDirectory.open(tmp_path / "nothing")
    run = RunDirectory.create(tmp_path, "quickstart", "real")
    with pytest.raises(BadInput, match=r"not a run directory: it has no config\.json"):
        RunDirectory.open(run.path)
    run.write_config(RunConfig(), {})
    with pytest.raises(BadInput, match=r"the newest runs there: .*real"):
        RunDirectory.open(tmp_path / "reel")


HOLD_THE_LOCK = """
import sys
import tempfile
from pathlib import Path
from repertory.run_directory import RunDirectory
lock = RunDirectory(Path(sys.argv[1])).lock()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_the_run_and_a_dead_holder_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory.create(tmp_path, "quickstart")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match=rf"is in use by process {holder.pid} on \S+, started"):
            run.lock()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with caplog.at_level(logging.WARNING):
        lock = run.lock()
    assert f"took over the lock of process {holder.pid}" in caplog.text
    assert json.loads((run.path / "LOCK").read_text())["pid"] == os.getpid()
    lock.release()


def test_a_released_lock_leaves_no_trace_and_can_be_taken_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory.create(tmp_path, "quickstart")
    with run.lock() as lock, pytest.raises(BadInput, match=f"process {os.getpid()} "):
        run.lock()
    lock.release()
    assert (run.path / "LOCK").read_text() == ""
    with run.lock():
        pass
    assert caplog.text == ""


def test_a_released_lock_is_not_kept_by_a_forked_child(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "quickstart")
    code = """
import os, sys
from pathlib import Path
from repertory.run_directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
lock = run.lock()
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
os.close(reader)
lock.release()
run.lock().release()
os.close(writer)
os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True, timeout=60)


def test_a_torn_lock_file_is_taken_over(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "quickstart")
    (run.path / "LOCK").write_text('{"pid": 12')
    with run.lock():
        assert json.loads((run.path / "LOCK").read_text())["pid"] == os.getpid()


def test_events_are_lines_of_json_that_survive_odd_values(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "quickstart")
    run.event("actor_died", worker=3, reason="killed", where=Path("/x"), loss=float("nan"))
    run.event("actor_restarted", worker=3)
    first, second = read_rows(run.events)
    assert (first["kind"], first["worker"], first["where"]) == ("actor_died", 3, "/x")
    assert first["loss"] != first["loss"]
    assert first["time"] <= second["time"]


def test_a_full_disk_does_not_raise_from_an_event_and_is_said_once(
    small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory(small_disk.place)
    run.event("first")
    small_disk.fill(run.events)
    for _ in range(3):
        run.event("lost", text="x" * 8000)
    assert caplog.text.count("cannot write to") == 1
    small_disk.free()
    run.event("last")
    kinds = [row["kind"] for row in read_rows(run.events)]
    assert kinds == ["first", "lost", "lost", "lost", "last"]


def test_secrets_are_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("WANDB_API_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN")):
        monkeypatch.setenv(name, f"very-secret-{number}")
    run = RunDirectory.create(tmp_path, "quickstart")
    run.write_config(RunConfig(address="ray://very-secret-1@head"), {"note": "very-secret-0"})
    run.event("fault", text="the token very-secret-1 was refused")
    handler = run.log_handler()
    record = logging.LogRecord("x", logging.INFO, "f", 1, "key %s", ("very-secret-2",), None)
    handler.emit(record)
    handler.close()
    for file in run.path.glob("*.*"):
        assert "very-secret" not in file.read_text(), file
    assert "<HF_TOKEN>" in run.log_file.read_text()
    assert "<RAY_AUTH_TOKEN>" in run.events.read_text()


def test_the_wandb_identity_outlives_a_renamed_directory(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "quickstart", "first")
    assert run.wandb_id() == "first"
    moved = RunDirectory(run.path.rename(tmp_path / "second"))
    assert moved.wandb_id() == "first"
