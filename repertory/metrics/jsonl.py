"""metrics.jsonl, the record of a run: one row, one line, flushed at once."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_MOST_PENDING = 10_000
"""Rows held back while the disk is full, about ten hours of a run."""
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class JsonlSink:
    """Appends rows to a file. A full disk is said once, waited out and made up for.

    Nothing is ever truncated: where an earlier process was cut off in the middle of a line, that
    line is closed and the next row starts on one of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.dropped = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._pending: deque[bytes] = deque()
        self._failing = False
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._pending.append(b"\n")

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Append one row; NaN and infinities are written as strings, which JSON can hold."""
        self.append(to_json_line(row))

    def append(self, line: str) -> None:
        """Append a line as it is."""
        if self._descriptor < 0:
            raise ValueError(f"{self.path} is closed")
        if len(self._pending) >= _MOST_PENDING:
            # The first may be half written, so it stays.
            del self._pending[1]
            self.dropped += 1
        self._pending.append(line.encode())
        self._flush()

    def close(self) -> None:
        """Flush and close. A second call does nothing."""
        if self._descriptor < 0:
            return
        self._flush()
        if self._pending:
            log.error("%d rows could not be written to %s", len(self._pending), self.path)
        os.close(self._descriptor)
        self._descriptor = -1

    def _flush(self) -> None:
        try:
            while self._pending:
                line = self._pending[0]
                # A nearly full disk takes part of a line; the rest of it goes first next time.
                written = os.write(self._descriptor, line)
                if written < len(line):
                    self._pending[0] = line[written:]
                else:
                    self._pending.popleft()
        except OSError as error:
            if not self._failing:
                log.error(
                    "cannot write to %s: %s; rows are kept in memory and tried again",
                    self.path,
                    error,
                )
            self._failing = True
        else:
            if self._failing:
                log.warning("%s is written again, %d rows lost", self.path, self.dropped)
            self._failing = False


def to_json_line(row: Mapping[str, Any]) -> str:
    """Return a row as one line of strict JSON. Numpy scalars become numbers, the unknown text."""
    return (
        json.dumps(
            {str(key): _plain(value) for key, value in row.items()},
            allow_nan=False,
            ensure_ascii=False,
            default=str,
        )
        + "\n"
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, torn lines left out with a warning; no file is no rows."""
    rows: list[dict[str, Any]] = []
    torn = 0
    if not path.exists():
        return rows
    with path.open("rb") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                torn += 1
                continue
            if isinstance(row, dict):
                rows.append({key: _number(value) for key, value in row.items()})
            else:
                torn += 1
    if torn:
        log.warning("%s: %d torn lines left out", path, torn)
    return rows


def standing(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of `since_env_steps` to `env_steps` without those that a later one overlaps.

    A run that went back to a checkpoint plays the steps behind it again. Rows of different
    `network` stand beside each other.
    """
    kept: list[dict[str, Any]] = []
    for row in rows:
        begin, network = row["since_env_steps"], row.get("network")
        kept = [one for one in kept if one["env_steps"] <= begin or one.get("network") != network]
        kept.append(row)
    return kept


def _plain(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    match value:
        case dict():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case _:
            return value


def _number(value: Any) -> Any:
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value
