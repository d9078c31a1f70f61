"""Saves and loads checkpoints: atomic, complete, rotated, hashed, and free of pickle.

A checkpoint is a directory `step_000012000` of arrays.safetensors, state.json (the tree that the
arrays hang in) and manifest.json (format, step, size and SHA-256 of each). It is written beside
its place and renamed into it, so that it is either whole or not there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from repertory.durable_files import sync, write_atomically
from repertory.errors import BadInput, RepertoryError, did_you_mean
from repertory.fingerprints import digest_of, fingerprint
from repertory.ports import State
from repertory.saved_state import SavedState
from repertory.state_tree import flatten, unflatten

log = logging.getLogger(__name__)

FORMAT = 1
ARRAYS = "arrays.safetensors"
TREE = "state.json"
MANIFEST = "manifest.json"
LATEST = "latest"
_FILES = frozenset((ARRAYS, TREE))
_STEP = re.compile(r"step_(\d{9,})")
_LEFTOVER = re.compile(r"step_\d{9,}\.(tmp|removed)-\d+")
_REPLACED = re.compile(r"(step_\d{9,})\.replaced-\d+")


class CheckpointFailed(RepertoryError):
    """A checkpoint could not be written. The ones before it are untouched; a run may go on."""


class CheckpointRefused(BadInput):
    """A checkpoint is missing or damaged, or of a format this version does not read."""


def save(directory: Path, state: State, step: int, keep: int) -> Path:
    """Write `state` as the checkpoint of `step`, keep the newest `keep`, and return its path.

    One process writes to a directory at a time (the lock of the run directory sees to it).
    Raises CheckpointFailed if the file system refuses, leaving nothing half written behind.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step {step} must not be negative and keep {keep} must be at least 1")
    arrays, tree = flatten(state)
    text = json.dumps(tree, allow_nan=False, ensure_ascii=False)
    directory = Path(directory)
    final = directory / f"step_{step:09d}"
    partial = directory / f"{final.name}.tmp-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _clean(directory)
        partial.mkdir()
        save_file(arrays, partial / ARRAYS)
        (partial / TREE).write_text(text, encoding="utf-8")
        files = {name: fingerprint(partial / name) for name in sorted(_FILES)}
        for name in files:
            sync(partial / name)
        # The manifest is last: a directory that has one has everything.
        manifest = {"format": FORMAT, "step": step, "files": files}
        manifest["sha256"] = _digest(manifest)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        sync(partial / MANIFEST)
        sync(partial)
        _put_in_place(partial, final)
        sync(directory)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointFailed(f"could not save the checkpoint {final}: {error}") from error
    try:
        _rotate(directory, step, keep)
        # For people and scripts; loading looks at what is there.
        write_atomically(directory / LATEST, final.name + "\n")
    except OSError as error:
        log.warning("saved %s, but could not tidy up after it: %s", final, error)
    return final


def load(path: Path, *, only: Sequence[str] | None = None) -> State:
    """Return the state of one checkpoint; `only` names the top-level parts wanted.

    Asked for what it lacks, it answers with BadInput: earlier versions wrote other parts.

    Raises CheckpointRefused, naming the file with expected and actual size or hash.
    """
    path = Path(path)
    verify(path)
    try:
        tree = json.loads((path / TREE).read_text(encoding="utf-8"))
        if only is not None:
            for name in only:
                if name not in tree:
                    raise CheckpointRefused(
                        f"checkpoint {path} has no part '{name}'; it has {', '.join(tree)}."
                        + did_you_mean(name, tree)
                    )
            tree = {name: tree[name] for name in only}
        return SavedState(unflatten(tree, _read_arrays(path / ARRAYS, only)), str(path))
    except CheckpointRefused:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointRefused(f"checkpoint {path} cannot be read: {error}") from error


def load_latest(
    directory: Path, *, only: Sequence[str] | None = None
) -> tuple[State, Path, list[str]]:
    """Return the newest good state, its path, and one warning for each checkpoint refused.

    Raises BadInput when there is no checkpoint or none is good; all but the oldest, which the
    error is about, have been warned of then.
    """
    candidates = list_checkpoints(directory)
    if not candidates:
        raise BadInput(f"there is no checkpoint in {directory}")
    refused: list[str] = []
    for path in reversed(candidates):
        try:
            state = load(path, only=only)
        except CheckpointRefused as error:
            refused.append(str(error))
            if path != candidates[0]:
                log.warning("%s; taking the one before it", error)
        else:
            return state, path, refused
    raise BadInput(f"no checkpoint in {directory} is good ({len(refused)} tried): {refused[-1]}")


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the paths of the checkpoints in a directory, good or damaged, oldest first."""
    steps = {int(found[1]): path for path, found in _matching(Path(directory), _STEP)}
    # Where a save over the same step was cut between its two renames, the old one still counts.
    for path, found in _matching(Path(directory), _REPLACED):
        steps.setdefault(step_of(Path(found[1])), path)
    return [steps[step] for step in sorted(steps)]


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name."""
    found = re.match(_STEP, Path(path).name)
    if not found:
        raise BadInput(f"{path} is not a checkpoint; its name would be like step_000012000")
    return int(found[1])


def verify(path: Path) -> None:
    """Compare every file of a checkpoint with the manifest, or raise CheckpointRefused."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointRefused(f"there is no checkpoint at {path}")
    manifest = _read_manifest(path)
    for name in sorted(_FILES):
        file, expected = path / name, manifest["files"][name]
        if not file.is_file():
            raise CheckpointRefused(f"checkpoint {path} is damaged: {name} is missing")
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise CheckpointRefused(
                f"checkpoint {path} is damaged: {name} has {size} bytes, expected "
                f"{expected['bytes']}"
            )
        actual = fingerprint(file)["sha256"]
        if actual != expected["sha256"]:
            raise CheckpointRefused(
                f"checkpoint {path} is damaged: {name} has SHA-256 {_shown(actual)}, expected "
                f"{_shown(expected['sha256'])}"
            )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointRefused(f"checkpoint {path} is damaged: {MANIFEST} is missing") from None
    except (OSError, ValueError) as error:
        raise CheckpointRefused(
            f"checkpoint {path} is damaged: {MANIFEST} cannot be read: {error}"
        ) from error
    if not isinstance(manifest, dict):
        raise CheckpointRefused(f"checkpoint {path} is damaged: {MANIFEST} is not an object")
    if manifest.get("format") != FORMAT:
        raise CheckpointRefused(
            f"checkpoint {path} has format {manifest.get('format')!r}; this version reads {FORMAT}"
        )
    actual, expected = _digest(manifest), manifest.get("sha256")
    if actual != expected:
        raise CheckpointRefused(
            f"checkpoint {path} is damaged: {MANIFEST} has SHA-256 {_shown(actual)}, expected "
            f"{_shown(expected)}"
        )
    match manifest:
        case {"files": {**files}} if set(files) == _FILES:
            pass
        case _:
            raise CheckpointRefused(
                f"checkpoint {path} lists the files {manifest.get('files')!r}; expected "
                f"{sorted(_FILES)}"
            )
    if manifest.get("step") != step_of(path):
        raise CheckpointRefused(f"checkpoint {path} says it is of step {manifest.get('step')!r}")
    return manifest


def _read_arrays(file: Path, only: Sequence[str] | None) -> dict[str, np.ndarray]:
    # Read, not mapped: a mapped file that is rotated away under the reader ends the process.
    with safe_open(file, framework="np", backend="pread") as arrays:
        wanted = [
            name
            for name in arrays.keys()  # noqa: SIM118 (not a dictionary)
            if only is None or name.split("/")[0] in _escaped(only)
        ]
        return {name: arrays.get_tensor(name) for name in wanted}


def _escaped(names: Sequence[str]) -> set[str]:
    return {name.replace("~", "~0").replace("/", "~1") for name in names}


def _put_in_place(partial: Path, final: Path) -> None:
    """Rename into place; one of the same step steps aside and is removed afterwards."""
    if not final.exists():
        partial.rename(final)
        return
    replaced = final.with_name(f"{final.name}.replaced-{os.getpid()}")
    final.rename(replaced)
    partial.rename(final)
    _remove(replaced)


def _rotate(directory: Path, step: int, keep: int) -> None:
    """Remove all but the newest; set aside those of later steps, which this run went back from."""
    paths = list_checkpoints(directory)
    for path in paths:
        if step_of(path) > step:
            aside = path.with_name(f"superseded_{path.name}")
            log.warning("%s is of a later step than the run is at; it is now %s", path, aside)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
    for path in [path for path in paths if step_of(path) <= step][:-keep]:
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a directory so that a crash leaves no half of it under its own name."""
    name = path.name.partition(".")[0]
    doomed = path.with_name(f"{name}.removed-{os.getpid()}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _clean(directory: Path) -> None:
    """Remove what saves that were cut short have left."""
    for path, _ in _matching(directory, _LEFTOVER):
        shutil.rmtree(path, ignore_errors=True)
    for path, found in _matching(directory, _REPLACED):
        if (directory / found[1]).exists():
            _remove(path)


def _matching(directory: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(directory.iterdir()):
            found = pattern.fullmatch(path.name)
            if found:
                yield path, found


def _shown(digest: object) -> str:
    """Return as much of a hash as tells it from another."""
    return str(digest)[:12]


def _digest(manifest: dict[str, Any]) -> str:
    return digest_of(manifest, separators=(",", ":"))
