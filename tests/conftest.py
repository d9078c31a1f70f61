"""What every test runs under: shapes and types checked, one torch thread, nothing sent anywhere."""

from __future__ import annotations

import os

# Before torch, ray and wandb are imported anywhere: they read these once. (torch takes its thread
# count from OMP_NUM_THREADS.)
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
)
os.environ.pop("WANDB_API_KEY", None)
os.environ.pop("RAY_ADDRESS", None)

from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from small_disk import SmallDisk

# Annotations cost nothing in production; here every call of ours is held to its array shapes.
install_import_hook(
    ["repertory", "envs", "actors", "replay", "learner", "deploy"], "beartype.beartype"
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Yield a disk of 2 MB."""
    place = tmp_path / "small disk"
    place.mkdir()
    disk = SmallDisk(place)
    yield disk
    disk.close()
