"""A disk small enough to fill."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path


class SmallDisk:
    """A place of 2 MB: a tmpfs where mounting is permitted, else a limit on the size of files."""

    FULL = "No space left on device|File too large"

    def __init__(self, place: Path) -> None:
        self.place = place
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self.free()

    def fill(self, file: Path) -> None:
        """Leave `file` no room to speak of."""
        if not self.mounted:
            self._limit(file.stat().st_size + 50)
            return
        with (self.place / "filler").open("wb", buffering=0) as stream:
            try:
                while stream.write(bytes(4096)):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Make room again."""
        if self.mounted:
            (self.place / "filler").unlink(missing_ok=True)
        else:
            self._limit(2_000_000)

    def close(self) -> None:
        """Leave everything as it was."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.place)], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def _limit(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._limits[1]))
