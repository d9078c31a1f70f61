"""Writes that survive a crash: a file is the old one or the new one, never half of either."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's content, or the names in a directory, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(file: Path, content: str | bytes) -> None:
    """Replace a small file. Raises OSError, with nothing left behind and the old one kept."""
    temporary = file.with_name(f"{file.name}.tmp-{os.getpid()}")
    try:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            temporary.write_bytes(content)
        sync(temporary)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(file.parent)
