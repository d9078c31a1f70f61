"""What the tests of a run's records share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import SmallDisk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Yield a disk of 2 MB."""
    place = tmp_path / "small disk"
    place.mkdir()
    disk = SmallDisk(place)
    yield disk
    disk.close()
