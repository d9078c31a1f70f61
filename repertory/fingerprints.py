"""Sizes and hashes of files and of the manifest that lists them, by which damage is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def fingerprint(file: Path) -> dict[str, Any]:
    """Return a file's size in `bytes` and its `sha256`, as manifests hold them."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def digest_of(manifest: Mapping[str, Any], separators: tuple[str, str] | None = None) -> str:
    """Return the hash of everything in a manifest but its own `sha256`.

    `separators` are those of the text that is hashed, and so a part of the file format.
    """
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=separators)
    return hashlib.sha256(text.encode()).hexdigest()
