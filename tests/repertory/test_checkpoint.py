"""Checkpoints come back exactly, or are refused by name."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_disk import SmallDisk

from repertory import checkpoint
from repertory.checkpoint import CheckpointFailed, CheckpointRefused
from repertory.errors import BadInput
from repertory.ports import State
from repertory.seeding import stream


def small_state(step: int) -> State:
    return {
        "learner": {"weights": np.full(7, step, dtype=np.float32), "version": step},
        "queues": {"atari/breakout/m0d0": [np.arange(step), {"dropped": 3}]},
    }


def assert_same(left: Any, right: Any) -> None:
    # What is read back is a dictionary of a kind of its own.
    assert len({dict if isinstance(one, dict) else type(one) for one in (left, right)}) == 1
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, float):
        assert np.float64(left).tobytes() == np.float64(right).tobytes()
    else:
        assert left == right


def reseal(path: Path, **changes: Any) -> None:
    """Change a manifest and make its own hash right again, as someone hostile would."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.update(changes)
    del manifest["sha256"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_every_kind_of_value_comes_back_with_its_type_and_bits(tmp_path: Path) -> None:
    numbers = random.Random(1)
    state: State = {
        "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), -float("inf")]
        + [numbers.uniform(-1, 1) * 10.0 ** numbers.randint(-300, 300) for _ in range(200)],
        "nan": float("nan"),
        "integers": [0, -1, 2**64, -(2**200), 10**40],
        "flags": [True, False, None],
        "text": ["", 'ünïcödé \u2028 \x00 "quotes"', "🕹"],
        "empty": [{}, []],
        "generator": stream(3, "actor", 1).bit_generator.state,
        "strange/keys": {"$array": 1, "$": "x", "$$float": [2.5], "a/b": {"~": 1, "": 2}},
    }
    path = checkpoint.save(tmp_path, state, 12_000, keep=3)
    assert path == tmp_path / "step_000012000"
    assert_same(state, checkpoint.load(path))
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = checkpoint.load(path)["generator"]
    assert generator.integers(0, 2**63) == stream(3, "actor", 1).integers(0, 2**63)


def test_every_kind_of_array_comes_back_and_can_be_written_to(tmp_path: Path) -> None:
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    codes = [*"?bhiqBHIQefdgFDG", "S3", "U5", "M8[s]", "m8[ms]", ">f4", ">i8"]
    arrays: list[np.ndarray] = [np.ones((2, 3)).astype(code) for code in codes]
    arrays += [np.zeros((), np.float32), np.array(3), np.array(True), np.array(2.5, dtype=">f8")]
    arrays += [np.zeros((0,), np.uint8), np.zeros((3, 0, 2), np.bool_)]
    arrays += [grid.T, grid[::2, ::-1], np.broadcast_to(grid[:1], (4, 6)), np.asfortranarray(grid)]
    state: State = {"arrays": arrays, "again": arrays[0]}
    loaded = checkpoint.load(checkpoint.save(tmp_path, state, 1, keep=1))
    assert_same(state, loaded)
    for array in loaded["arrays"]:
        assert array.flags.writeable
    loaded["again"][:] = 0
    assert loaded["arrays"][0].all()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, 2), "'part/0' is a tuple"),
        ({1: 2}, "'part/0' has the key 1"),
        (np.int64(3), "'part/0' is a int64"),
        (np.array([None]), "'part/0' is an array of object"),
        (np.zeros(2, dtype=[("a", "f4")]), "'part/0' is an array of"),
        (b"bytes", "'part/0' is a bytes"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused_with_its_path(
    tmp_path: Path, value: Any, words: str
) -> None:
    with pytest.raises(TypeError, match="state at") as refused:
        checkpoint.save(tmp_path, {"part": [value]}, 1, keep=1)
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_parts_can_be_loaded_alone_and_a_wrong_name_is_answered(tmp_path: Path) -> None:
    state = small_state(4) | {"a/b": np.arange(3), "a": np.arange(2)}
    path = checkpoint.save(tmp_path, state, 4, keep=1)
    assert_same(checkpoint.load(path, only=("learner",)), {"learner": state["learner"]})
    assert_same(checkpoint.load(path, only=("a/b",)), {"a/b": state["a/b"]})
    with pytest.raises(BadInput, match=r"no part 'lerner'.*Did you mean 'learner'\?"):
        checkpoint.load(path, only=("lerner",))


def test_only_the_newest_are_kept_and_latest_names_the_last(tmp_path: Path) -> None:
    for step in (1, 20, 300, 4000):
        checkpoint.save(tmp_path, small_state(step), step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "latest",
        "step_000000300",
        "step_000004000",
    ]
    assert (tmp_path / "latest").read_text() == "step_000004000\n"
    state, path, refused = checkpoint.load_latest(tmp_path)
    assert (state["learner"]["version"], path.name, refused) == (4000, "step_000004000", [])


def test_steps_beyond_nine_digits_are_still_in_order(tmp_path: Path) -> None:
    for step in (999_999_999, 1_000_000_000):
        checkpoint.save(tmp_path, small_state(3), step, keep=5)
    assert [checkpoint.step_of(path) for path in checkpoint.list_checkpoints(tmp_path)] == [
        999_999_999,
        1_000_000_000,
    ]


def test_a_second_save_of_one_step_replaces_the_first(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, small_state(1), 5, keep=2)
    checkpoint.save(tmp_path, small_state(2), 5, keep=2)
    assert checkpoint.load_latest(tmp_path)[0]["learner"]["version"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_000000005"]


def test_going_back_sets_the_abandoned_future_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 9):
        checkpoint.save(tmp_path, small_state(step), step, keep=3)
    checkpoint.save(tmp_path, small_state(3), 3, keep=3)
    assert checkpoint.load_latest(tmp_path)[1].name == "step_000000003"
    assert (tmp_path / "superseded_step_000000009").is_dir()
    assert "later step" in caplog.text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["arrays.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "SHA-256|cannot be read"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "bytes, expected|cannot be read"),
        (lambda file: file.write_bytes(b""), "has 0 bytes, expected|cannot be read"),
        (lambda file: file.unlink(), "is missing"),
    ],
    ids=["flipped", "truncated", "empty", "missing"],
)
def test_a_damaged_newest_is_refused_by_name_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Any, words: str
) -> None:
    for step in (1, 2):
        newest = checkpoint.save(tmp_path, small_state(step), step, keep=3)
    damage(newest / name)
    with pytest.raises(CheckpointRefused, match=words) as refused:
        checkpoint.load(newest)
    assert name in str(refused.value)
    assert str(newest) in str(refused.value)
    assert refused.value.exit_code == 2
    with caplog.at_level(logging.WARNING):
        state, path, warnings = checkpoint.load_latest(tmp_path)
    assert_same(state, small_state(1))
    assert path.name == "step_000000001"
    assert warnings == [str(refused.value)]
    (warning,) = caplog.messages
    assert warning == f"{refused.value}; taking the one before it"
    assert not re.search(r"[0-9a-f]{13}", warning.replace(str(tmp_path), ""))


def test_when_none_is_good_every_reason_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        (checkpoint.save(tmp_path, small_state(step), step, keep=3) / "state.json").unlink()
    with caplog.at_level(logging.WARNING), pytest.raises(BadInput) as failure:
        checkpoint.load_latest(tmp_path)
    told = [*caplog.messages, str(failure.value)]
    assert [re.findall(r"step_\d+", text) for text in told] == [
        ["step_000000003"],
        ["step_000000002"],
        ["step_000000001"],
    ]
    assert ["taking the one before it" in text for text in told] == [True, True, False]


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, small_state(3), 3, keep=1)
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        for position in range(0, len(whole), 7):
            torn = bytearray(whole)
            torn[position] ^= 0x10
            file.write_bytes(torn)
            try:
                assert_same(checkpoint.load(path), small_state(3))
                # Blanks between the words of the manifest mean nothing.
                assert file.name == "manifest.json"
                assert chr(whole[position]).isspace()
            except CheckpointRefused:
                pass
        file.write_bytes(whole)
    assert_same(checkpoint.load(path), small_state(3))


def test_none_good_is_bad_input_that_tells_why(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no checkpoint in"):
        checkpoint.load_latest(tmp_path / "nowhere")
    path = checkpoint.save(tmp_path, small_state(1), 1, keep=1)
    (path / "state.json").unlink()
    with pytest.raises(BadInput, match=r"is good \(1 tried\):.*state\.json is missing"):
        checkpoint.load_latest(tmp_path)
    with pytest.raises(CheckpointRefused, match="there is no checkpoint at"):
        checkpoint.load(tmp_path / "step_000000077")


def test_another_format_and_another_step_are_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, small_state(1), 1, keep=1)
    moved = path.rename(tmp_path / "step_000000002")
    with pytest.raises(CheckpointRefused, match="says it is of step 1"):
        checkpoint.load(moved)
    reseal(moved, format=2)
    with pytest.raises(CheckpointRefused, match="has format 2; this version reads 1"):
        checkpoint.load(moved)


def test_a_manifest_cannot_reach_outside_its_directory(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c", small_state(1), 1, keep=1)
    files = json.loads((path / "manifest.json").read_text())["files"]
    reseal(path, files=files | {"../../secret": {"bytes": 1, "sha256": "0"}})
    with pytest.raises(CheckpointRefused, match="lists the files"):
        checkpoint.load(path)
    for hostile in ([], None, {"state.json": 3}):
        reseal(path, files=hostile)
        with pytest.raises(CheckpointRefused, match="lists the files"):
            checkpoint.load(path)


class Payload:
    """Says so if anything ever unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_hostile_pickle_is_never_run(tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    pickled = pickle.dumps(Payload(reached))
    path = checkpoint.save(tmp_path / "c", {"part": np.zeros(3)}, 1, keep=1)
    for name in ("arrays.safetensors", "state.json"):
        shutil.rmtree(path)
        checkpoint.save(tmp_path / "c", {"part": np.zeros(3)}, 1, keep=1)
        (path / name).write_bytes(pickled)
        files = json.loads((path / "manifest.json").read_text())["files"]
        digest = hashlib.sha256(pickled).hexdigest()
        reseal(path, files=files | {name: {"bytes": len(pickled), "sha256": digest}})
        with pytest.raises(CheckpointRefused, match="cannot be read"):
            checkpoint.load(path)
    assert not reached.exists()


def test_a_hostile_tree_is_refused_and_not_crashed_on(tmp_path: Path) -> None:
    hostile = [
        '{"a": {"$array": "b"}}',
        '{"a": {"$array": "part", "$dtype": "O", "$shape": [3]}}',
        '{"a": {"$array": "part", "$shape": [3]}}',
        '{"a": {"$array": "part", "$dtype": "<f4", "$shape": [1000000]}}',
        "[1]",
        "[" * 100_000,
    ]
    for text in hostile:
        path = checkpoint.save(tmp_path, {"part": np.zeros(3)}, 1, keep=1)
        (path / "state.json").write_text(text)
        files = json.loads((path / "manifest.json").read_text())["files"]
        seal = {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        reseal(path, files=files | {"state.json": seal})
        with pytest.raises(CheckpointRefused, match="cannot be read"):
            checkpoint.load(path)


def test_leftovers_are_ignored_and_swept_up_by_the_next_save(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, small_state(1), 1, keep=3)
    shutil.copytree(tmp_path / "step_000000001", tmp_path / "step_000000002.tmp-99")
    shutil.copytree(tmp_path / "step_000000001", tmp_path / "step_000000000.removed-99")
    assert checkpoint.load_latest(tmp_path)[1].name == "step_000000001"
    checkpoint.save(tmp_path, small_state(3), 3, keep=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["latest", "step_000000001", "step_000000003"]


def test_a_full_disk_fails_clearly_leaves_nothing_and_is_survived(small_disk: SmallDisk) -> None:
    directory = small_disk.place / "checkpoints"
    checkpoint.save(directory, small_state(1), 1, keep=3)
    before = sorted(path.name for path in directory.iterdir())
    too_much = {"weights": np.zeros(3_000_000, dtype=np.uint8)}
    with pytest.raises(CheckpointFailed, match=SmallDisk.FULL):
        checkpoint.save(directory, too_much, 2, keep=3)
    assert sorted(path.name for path in directory.iterdir()) == before
    assert_same(checkpoint.load_latest(directory)[0], small_state(1))
    checkpoint.save(directory, small_state(3), 3, keep=3)
    assert_same(checkpoint.load_latest(directory)[0], small_state(3))


def test_a_place_that_cannot_be_written_fails_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointFailed, match="could not save the checkpoint"):
        checkpoint.save(tmp_path / "file", small_state(1), 1, keep=1)


KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
import numpy as np
from repertory import checkpoint

def state(step):
    return {"weights": np.full(50, step), "step": step}

def check(directory, steps):
    found, path, refused = checkpoint.load_latest(directory)
    assert refused == [], refused
    assert found["step"] in steps and (found["weights"] == found["step"]).all(), found
    return found["step"]

WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.scandir"}
root, second = Path(sys.argv[1]), int(sys.argv[2])
seen = set()
for stage in range(1000):
    directory = root / f"{stage}"
    checkpoint.save(directory, state(1), 1, keep=1)
    child = os.fork()
    if child == 0:
        calls = 0
        def hook(event, arguments):
            global calls
            if event in WATCHED:
                calls += 1
                if calls > stage:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        checkpoint.save(directory, state(2), second, keep=1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    seen.add(check(directory, {1, 2}))
    checkpoint.save(directory, state(3), 30, keep=1)
    assert check(directory, {3}) == 3
    assert sorted(p.name for p in directory.iterdir() if "latest." not in p.name) == [
        "latest", "step_000000030"]
    if os.waitstatus_to_exitcode(status) == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
assert seen == {1, 2}, seen
print(stage)
"""


@pytest.mark.parametrize("second", [1, 2], ids=["same step", "next step"])
def test_a_process_killed_at_any_stage_of_saving_leaves_a_good_checkpoint(
    tmp_path: Path, second: int
) -> None:
    """Each child dies just before its n-th call to the file system, n from 0 until one lives."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path), str(second)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
