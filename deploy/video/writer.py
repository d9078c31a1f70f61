"""Pictures to an MP4 that browsers play (H.264, yuv420p) or to a GIF, whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from repertory.errors import BadInput, RepertoryError

_H264: dict[str, Any] = {
    "codec": "libx264",
    "macro_block_size": 2,
    "output_params": ["-crf", "18", "-movflags", "+faststart"],
}
# A palette for every picture: one for all would have to wait for the last of them in memory.
_GIF: dict[str, Any] = {
    "codec": "gif",
    "macro_block_size": 1,
    "pix_fmt_out": "pal8",
    "output_params": [
        "-vf",
        "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none",
    ],
}


class VideoWriter:
    """Write pictures of one size as they come; the file appears under its name on leaving.

    When the block is left by an exception, or without a picture, nothing is left behind.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.check(path)
        self.path = path
        self.frames = 0
        self._fps = fps
        self._is_gif = path.suffix.lower() == ".gif"
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix.lower()}")
        self._shape: tuple[int, ...] = ()
        self._encoder: Any = None

    @staticmethod
    def check(path: Path) -> None:
        """Raise BadInput unless a film can be written to `path`; nothing is left there."""
        if path.suffix.lower() not in (".mp4", ".gif"):
            raise BadInput(f"video file '{path}' must end in .mp4 or .gif")
        if path.is_dir() or not path.parent.is_dir():
            fault = "it is a folder" if path.is_dir() else "its folder does not exist"
            raise BadInput(f"cannot write the video {path}: {fault}")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise BadInput(f"cannot write the video {path}: {error.strerror}") from error

    def add(self, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Append one picture."""
        if self._encoder is None:
            self._shape = picture.shape
            self._encoder = self._open()
        if picture.shape != self._shape:
            raise ValueError(f"pictures of {self.path} are {self._shape}, got {picture.shape}")
        height, width, _ = picture.shape
        if self._is_gif:
            sent = picture
        else:
            # H.264 halves the colour planes, so sides must be even: the last row or column repeats.
            sent = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            self._encoder.send(np.ascontiguousarray(sent))
        except OSError as error:
            raise self._failure() from error
        self.frames += 1

    def _open(self) -> Any:
        import imageio_ffmpeg

        height, width, _ = self._shape
        if not self._is_gif:
            height, width = height + height % 2, width + width % 2
        try:
            encoder = imageio_ffmpeg.write_frames(
                str(self._partial),
                (width, height),
                fps=self._fps,
                quality=None,
                ffmpeg_log_level="quiet",
                **(_GIF if self._is_gif else _H264),
            )
            encoder.send(None)
        except (OSError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RepertoryError(f"cannot start ffmpeg for {self.path}: {reason}") from error
        return encoder

    def _failure(self) -> RepertoryError:
        free = shutil.disk_usage(self.path.parent).free
        return RepertoryError(
            f"ffmpeg gave up on the video {self.path} after {self.frames} pictures "
            f"({free / 1e6:,.0f} MB are free there)"
        )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._encoder is not None:
                self._encoder.close()
                if kind is None:
                    self._partial.replace(self.path)
        except OSError as failure:
            raise self._failure() from failure
        finally:
            with contextlib.suppress(OSError):
                self._partial.unlink()
