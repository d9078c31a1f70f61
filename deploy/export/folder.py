"""The files of an exported agent: written together or not at all, checked before they are read."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from repertory.errors import BadInput
from repertory.fingerprints import digest_of, fingerprint
from repertory.run_directory import CONFIG, RunDirectory

if TYPE_CHECKING:
    from deploy.saved_agent import SavedAgent
    from repertory.config import RunConfig

log = logging.getLogger(__name__)

FORMAT = 1
MODEL = "model.safetensors"
CARD = "README.md"
MANIFEST = "manifest.json"
_NEEDED = (CONFIG, MODEL)


def is_exported(path: Path) -> bool:
    """Whether a folder is, or once was, an exported agent."""
    return (path / MANIFEST).is_file() or (path / MODEL).is_file()


def open_agent(path: Path) -> RunDirectory:
    """Open a run's directory, or an exported agent's once its files are what was written.

    Raises:
        BadInput: it is neither, or the export is damaged.
    """
    run = RunDirectory.open(path)
    if is_exported(run.path):
        verify(run.path)
    return run


def check_new(path: Path) -> None:
    """Raise BadInput unless an export can be written to `path`: nothing there, or an empty folder.

    Nothing is left behind.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        fault = "is not empty" if path.is_dir() else "is a file"
        raise BadInput(f"{path} {fault}, and an export overwrites nothing: name a new folder")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"cannot export to {path}: the folder around it does not exist")
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise BadInput(f"cannot export to {path}: {error.strerror}") from error


def write(path: Path, arrays: dict[str, np.ndarray], settings: dict[str, Any], card: str) -> None:
    """Write an export of these arrays; `settings` is what config.json holds.

    Raises:
        BadInput: there is something at `path`, or it cannot be written; nothing is left behind.
    """
    check_new(path)
    final = path.absolute()
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    try:
        partial.mkdir()
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, partial / MODEL)
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        (partial / CARD).write_text(card, encoding="utf-8")
        # It is to be given away: as readable as the files beside it.
        (partial / MODEL).chmod((partial / CARD).stat().st_mode)
        files = {name: fingerprint(partial / name) for name in (MODEL, CONFIG, CARD)}
        manifest: dict[str, Any] = {"format": FORMAT, "files": files}
        manifest["sha256"] = digest_of(manifest)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        partial.rename(final)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"cannot export to {path}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def verify(path: Path) -> None:
    """Compare the files with the manifest, or raise BadInput with the first that differs.

    A model card may be edited: that is only logged.
    """
    files = _manifest(path)
    for name in (*_NEEDED, CARD):
        file = path / name
        if name not in files:
            raise BadInput(f"the exported agent {path} is damaged: {MANIFEST} lacks {name}")
        try:
            actual = fingerprint(file)
        except FileNotFoundError:
            if name == CARD:
                continue
            raise BadInput(f"the exported agent {path} is damaged: {name} is missing") from None
        except OSError as error:
            raise BadInput(f"cannot read {file}: {error.strerror}") from error
        if actual == files[name]:
            continue
        if name == CARD:
            log.info("%s was edited since the export", file)
            continue
        raise BadInput(
            f"the exported agent {path} is damaged: {name} has {_shown(actual)}, "
            f"expected {_shown(files[name])}"
        )


def read_agent(path: Path) -> SavedAgent:
    """Return the agent of an export; its weights are those of the checkpoint, to the bit.

    Raises:
        BadInput: the export is damaged, or not of the network that its settings describe.
    """
    from deploy.export.arrays import agent_of

    verify(path)
    config, _ = RunDirectory(path).read_config()
    try:
        about = json.loads((path / CONFIG).read_text(encoding="utf-8"))["export"]
        # Read, not mapped: nothing is left open, and nothing is unpickled.
        arrays = load((path / MODEL).read_bytes())
        return agent_of(config, arrays, about)
    except BadInput:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadInput(f"the exported agent {path} cannot be read: {error!r}") from error


def read_learner_part(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Return an export's settings, and its networks and masks as a learner's state has them.

    What a fine-tuning run takes in place of the `learner` part of a checkpoint.
    """
    from deploy.export.arrays import learner_part

    agent = read_agent(path)
    config, _ = RunDirectory(path).read_config()
    return config, learner_part(config, agent)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"the exported agent {path} is damaged: {MANIFEST} is missing") from None
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the exported agent {path} is damaged: {MANIFEST} cannot be read: {error}"
        ) from error
    match manifest:
        case {"format": other} if other != FORMAT:
            raise BadInput(f"{path} is of export format {other!r}; this version reads {FORMAT}")
        case {"format": _, "files": dict() as files, "sha256": said} if said == digest_of(manifest):
            return files
        case _:
            raise BadInput(f"the exported agent {path} is damaged: {MANIFEST} was changed")


def _shown(found: Any) -> str:
    match found:
        case {"bytes": int() as size, "sha256": str() as digest}:
            return f"{size:,} bytes with SHA-256 {digest[:12]}"
        case _:
            return repr(found)
