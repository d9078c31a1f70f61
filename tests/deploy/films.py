"""Reads an MP4 or a GIF back with ffmpeg, to see what a player would see."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np


class Film(NamedTuple):
    """A film as it lies in its file."""

    description: str
    size: tuple[int, int]
    """Width and height."""
    fps: float
    pictures: np.ndarray
    """uint8 [picture, height, width, 3]."""


def read(path: Path) -> Film:
    """Decode every picture of the file."""
    # imageio-ffmpeg's own reader leaves its pipes open.
    done = subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)),
            *("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    (description,) = re.findall(r"Stream .*Video: (?:h264|gif).*", done.stderr.decode())[:1]
    width, height = map(int, re.findall(r"\b(\d{2,4})x(\d{2,4})\b", description)[0])
    fps = float(re.findall(r"([\d.]+) fps", description)[0])
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    return Film(description, (width, height), fps, pictures)
