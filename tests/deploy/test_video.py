"""Films come out whole, playable and in the right size, or not at all."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from films import read

from deploy.video.writer import VideoWriter
from repertory.errors import BadInput, RepertoryError


def pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    frames = []
    for index in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, : width // 2, 0] = 255
        frame[:, width // 2 :, 2] = 20 * index
        frames.append(frame)
    return frames


@pytest.mark.parametrize(("height", "width"), [(210, 160), (35, 51)])
def test_every_picture_arrives_at_its_rate_in_even_size_and_colour(tmp_path, height, width):
    path = tmp_path / "film.mp4"
    with VideoWriter(path, fps=15.0) as video:
        for picture in pictures(9, height, width):
            video.add(picture)
    film = read(path)
    assert film.fps == 15.0
    assert "yuv420p" in film.description
    assert film.size == (width + width % 2, height + height % 2)
    assert len(film.pictures) == video.frames == 9
    last = film.pictures[-1]
    assert last[5, 5, 0] > 200
    assert 120 < last[5, width - 5, 2] < 200
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_an_interrupted_film_leaves_nothing_and_keeps_the_one_before(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"the film before")

    def film():
        with VideoWriter(path, fps=15.0) as video:
            video.add(pictures(1, 20, 20)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film()
    assert path.read_bytes() == b"the film before"
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_a_film_without_pictures_is_no_file(tmp_path):
    with VideoWriter(tmp_path / "film.mp4", fps=15.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_size_is_refused(tmp_path):
    with VideoWriter(tmp_path / "film.mp4", 15.0) as video:
        video.add(pictures(1, 20, 20)[0])
        with pytest.raises(ValueError, match=r"are \(20, 20, 3\), got \(20, 24, 3\)"):
            video.add(pictures(1, 20, 24)[0])


def test_a_name_or_place_that_cannot_be_is_refused_before_anything_is_played(tmp_path):
    with pytest.raises(BadInput, match=r"must end in \.mp4 or \.gif"):
        VideoWriter(tmp_path / "film.avi", 15.0)
    with pytest.raises(BadInput, match="its folder does not exist"):
        VideoWriter(tmp_path / "none" / "film.mp4", 15.0)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(BadInput, match="it is a folder"):
        VideoWriter(tmp_path / "folder.mp4", 15.0)
    with pytest.raises(BadInput, match=r"^cannot write the video /proc/film\.mp4: [\w ]+$"):
        VideoWriter(Path("/proc/film.mp4"), 15.0)


# imageio-ffmpeg leaves the pipe to an encoder that has ended for the collector to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("command", ["exit 1", "cat > /dev/null; exit 1"])
def test_an_encoder_that_fails_ends_in_one_short_sentence(tmp_path, monkeypatch, command):
    broken = tmp_path / "ffmpeg"
    broken.write_text(f"#!/bin/sh\n{command}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))

    def film():
        with VideoWriter(tmp_path / "film.mp4", 15.0) as video:
            for picture in pictures(3, 400, 400):
                video.add(picture)

    with pytest.raises(RepertoryError, match="ffmpeg gave up on the video") as failure:
        film()
    assert len(str(failure.value).replace(str(tmp_path), "")) < 100
    assert "\n" not in str(failure.value)
    assert [file.name for file in tmp_path.iterdir()] == ["ffmpeg"]
    del failure
    gc.collect()
