"""The directory that holds everything a run leaves: made once, locked while in use, never
overwritten.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import shutil
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from repertory.config import RunConfig
from repertory.durable_files import write_atomically
from repertory.errors import BadInput
from repertory.metrics.jsonl import JsonlSink, to_json_line
from repertory.redaction import RedactingFormatter, without_secrets
from repertory.run_lock import RunLock

log = logging.getLogger(__name__)

CONFIG = "config.json"
FORMAT = 1
MINIMUM_FREE_BYTES = 1_000_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class RunDirectory:
    """Paths and small files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._event_lock = threading.Lock()
        self._event_sink: JsonlSink | None = None

    @classmethod
    def create(
        cls,
        root: Path,
        recipe: str,
        name: str | None = None,
        *,
        force: bool = False,
        minimum_free_bytes: int = MINIMUM_FREE_BYTES,
    ) -> RunDirectory:
        """Make runs/<recipe>-<utc>-<4 hex>, or `name` if given.

        Raises BadInput, with the cure, if it exists, cannot be written or, unless forced, has too
        little room; nothing is left behind then.
        """
        root = Path(root).expanduser()
        cls.check_new(root, name, force=force, minimum_free_bytes=minimum_free_bytes)
        for _ in range(16):
            chosen = name if name is not None else _fresh_name(recipe)
            path = root / chosen
            try:
                root.mkdir(parents=True, exist_ok=True)
                path.mkdir()
            except FileExistsError:
                if name is None and path.is_dir():
                    continue
                raise _taken(path) from None
            except OSError as error:
                raise BadInput(
                    f"cannot create the run directory {path}: {error.strerror}; choose a place "
                    "that can be written"
                ) from error
            run = cls(path)
            run._make_folders()
            return run
        raise BadInput(f"found no free run name in {root}; give one with a name of its own")

    @classmethod
    def check_new(
        cls,
        root: Path,
        name: str | None = None,
        *,
        force: bool = False,
        minimum_free_bytes: int = MINIMUM_FREE_BYTES,
    ) -> None:
        """Raise BadInput where `create` would, as far as can be known without making anything."""
        root = Path(root).expanduser()
        if name is not None and (not _NAME.fullmatch(name) or ".." in name):
            raise BadInput(
                f"run name '{name}' is not allowed; use up to 128 letters, digits, dots, "
                "dashes and underscores, for instance breakout-first"
            )
        existing = _existing(root)
        if not existing.is_dir():
            raise BadInput(f"{existing} is not a directory; runs go into one")
        if name is not None and (root / name).exists():
            raise _taken(root / name)
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise BadInput(
                f"cannot create run directories in {root}: {error.strerror}; choose a place that "
                "can be written with --runs-dir"
            ) from error
        _check_room(root, minimum_free_bytes, force=force)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open the directory of an earlier run, to read it, or to resume it once it is locked."""
        path = Path(path).expanduser()
        if not path.is_dir():
            raise BadInput(f"there is no run directory {path}{_neighbours(path)}")
        if not (path / CONFIG).is_file():
            raise BadInput(f"{path} is not a run directory: it has no {CONFIG}")
        return cls(path)

    @property
    def name(self) -> str:
        """Return the run's name, which W&B takes as its identity too."""
        return self.path.resolve().name

    @property
    def metrics(self) -> Path:
        """Return the file of one metric row per line."""
        return self.path / "metrics.jsonl"

    @property
    def guidance(self) -> Path:
        """Return the file of one matrix of whose policy acted per line, of guided runs."""
        return self.path / "guidance.jsonl"

    @property
    def gradients(self) -> Path:
        """Return the file of one map of cosines between the tasks' gradients per line."""
        return self.path / "gradients.jsonl"

    @property
    def events(self) -> Path:
        """Return the file of one structured fault per line."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """Return the folder of evaluation results."""
        return self.path / "evaluations"

    @property
    def videos(self) -> Path:
        """Return the folder of videos."""
        return self.path / "videos"

    @property
    def log_file(self) -> Path:
        """Return the file that the log goes to."""
        return self.path / "log.txt"

    def check_writable(
        self, *, force: bool = False, minimum_free_bytes: int = MINIMUM_FREE_BYTES
    ) -> None:
        """Raise BadInput if the directory cannot be written or, unless forced, has no room."""
        _check_room(self.path, minimum_free_bytes, force=force)
        self._make_folders()

    def lock(self) -> RunLock:
        """Take the directory for this process, or raise BadInput with the holder's name."""
        return RunLock(self.path / "LOCK")

    def write_config(self, config: RunConfig, protocol: dict[str, Any]) -> None:
        """Write config.json: the config and the protocol block, whole or not at all."""
        content = {
            "format": FORMAT,
            "config": config.model_dump(mode="json"),
            "protocol": protocol,
        }
        text = without_secrets(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"
        write_atomically(self.path / CONFIG, text)

    def read_config(self) -> tuple[RunConfig, dict[str, Any]]:
        """Return the config and the protocol block, or raise BadInput in one sentence."""
        file = self.path / CONFIG
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"cannot read {file}: {error.strerror}") from error
        except ValueError as error:
            raise BadInput(f"{file} is damaged: {error}") from error
        match content:
            case {"format": 1, "config": dict() as config, "protocol": dict() as protocol}:
                pass
            case {"format": other} if other != FORMAT:
                raise BadInput(f"{file} has format {other!r}; this version reads {FORMAT}")
            case _:
                raise BadInput(f"{file} is not the config of a run")
        try:
            return RunConfig.model_validate_json(json.dumps(config)), protocol
        except ValidationError as error:
            first = error.errors()[0]
            # Of a number that may be a word too pydantic names the kind as well.
            parts = [str(part) for part in first["loc"] if part != "constrained-int"]
            where = ".".join(parts) or "config"
            if first["type"] == "extra_forbidden":
                raise BadInput(
                    f"{file}: {where} is no setting of this version of Repertory: another one made "
                    "the run"
                ) from error
            raise BadInput(f"{file}: {where}: {first['msg']}") from error

    def event(self, kind: str, **fields: Any) -> None:
        """Append one structured fault to events.jsonl. Never raises because of the disk."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = without_secrets(to_json_line({"time": time, "kind": kind, **fields}))
        with self._event_lock:
            try:
                if self._event_sink is None:
                    self._event_sink = JsonlSink(self.events)
                self._event_sink.append(line)
            except OSError as error:
                log.error("cannot write to %s: %s", self.events, error)

    def log_handler(self) -> logging.Handler:
        """Return a handler that appends to log.txt with secrets left out."""
        handler = logging.FileHandler(self.log_file, encoding="utf-8", delay=True)
        handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        return handler

    def wandb_id(self) -> str:
        """Return the W&B identity of the run: its first name, whatever the directory is now."""
        file = self.path / "wandb_id.txt"
        with contextlib.suppress(OSError):
            stored = file.read_text(encoding="utf-8").strip()
            if _NAME.fullmatch(stored):
                return stored
        write_atomically(file, self.name + "\n")
        return self.name

    def _make_folders(self) -> None:
        try:
            for folder in (self.checkpoints, self.evaluations, self.videos):
                folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise BadInput(
                f"cannot write to the run directory {self.path}: {error.strerror}"
            ) from error


def _fresh_name(recipe: str) -> str:
    time = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{recipe}-{time}-{secrets.token_hex(2)}"


def _taken(path: Path) -> BadInput:
    return BadInput(
        f"{path} exists and is never overwritten; continue it with --resume {path} or give "
        "another name"
    )


def _existing(path: Path) -> Path:
    """Return the nearest of a path's ancestors, itself included, that is there."""
    existing = path.absolute()
    try:
        while not existing.exists():
            existing = existing.parent
    except OSError as error:
        raise BadInput(f"cannot use {path}: {error.strerror}") from error
    return existing


def _check_room(path: Path, minimum_free_bytes: int, *, force: bool) -> None:
    try:
        free = shutil.disk_usage(_existing(path)).free
    except OSError as error:
        raise BadInput(f"cannot use {path}: {error.strerror}") from error
    if free < minimum_free_bytes and not force:
        raise BadInput(
            f"the disk of {path} has {free / 1e9:.2f} GB free and a run wants "
            f"{minimum_free_bytes / 1e9:.2f} GB; free some, choose another place, or start with "
            "--force"
        )


def _neighbours(path: Path) -> str:
    """Return a hint with the newest runs beside a path that does not exist."""
    with contextlib.suppress(OSError):
        runs = [p.parent for p in path.parent.glob(f"*/{CONFIG}")]
        runs.sort(key=lambda run: run.stat().st_mtime, reverse=True)
        if runs:
            return "; the newest runs there: " + ", ".join(str(run) for run in runs[:3])
    return ""
