"""A lock file that one process holds while it works in a run directory."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from repertory.errors import BadInput

log = logging.getLogger(__name__)


class RunLock:
    """Held from construction to `release`; the kernel releases it when the process dies.

    The file stays: removing a lock file lets two processes hold locks on two files of one name.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BadInput(
                f"cannot write to the run directory {file.parent}: {error.strerror}"
            ) from error
        holder = self._read()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise BadInput(
                f"run directory {file.parent} is in use by {_describe(holder)}; wait for it, stop "
                "it, or start a run of another name"
            ) from None
        except OSError as error:
            os.close(self._descriptor)
            raise BadInput(f"cannot lock {file}: {error.strerror}") from error
        if holder:
            # The holder died without releasing. From another host it may be alive all the same,
            # where the file system does not carry locks from host to host.
            elsewhere = holder.get("host") != socket.gethostname()
            log.warning(
                "took over the lock of %s%s",
                _describe(holder),
                "; make sure that it is no longer running" if elsewhere else ", which is gone",
            )
        start = datetime.now(UTC).isoformat(timespec="seconds")
        self._write({"pid": os.getpid(), "host": socket.gethostname(), "start": start})

    def release(self) -> None:
        """Let go. A second call does nothing."""
        if self._descriptor < 0:
            return
        os.ftruncate(self._descriptor, 0)
        # Closing alone would leave the lock with any child that was forked meanwhile.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _read(self) -> dict[str, object]:
        try:
            content = json.loads(os.pread(self._descriptor, 4096, 0) or b"{}")
        except ValueError:
            return {"pid": "unknown"}
        return content if isinstance(content, dict) else {"pid": "unknown"}

    def _write(self, holder: dict[str, object]) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(holder).encode() + b"\n", 0)
        except OSError as error:
            # On a full disk the lock itself still holds; only its holder's name is missing.
            log.warning("cannot write %s: %s", self.file, error)


def _describe(holder: dict[str, object]) -> str:
    if not holder:
        return "another process"
    return (
        f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}, "
        f"started {holder.get('start', 'at an unknown time')}"
    )
