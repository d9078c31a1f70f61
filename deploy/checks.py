"""What `repertory doctor` looks at on this machine: each check says what it found, and the cure."""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from deploy import guard
from deploy.preflight import GIB, compiler
from repertory.protocol import release_of

Status = Literal["ok", "warning", "broken"]
MINIMUM_PYTHON = (3, 11)
_TOKEN_MASK = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    status: Status
    detail: str


def machine(runs_dir: Path) -> Iterator[Finding]:
    """Look at everything that needs no run: versions, hardware, files."""
    yield _python()
    yield _names()
    yield from packages()
    yield _processor()
    yield _memory()
    yield _compiler()
    yield guarded("torch and GPU", _gpu)
    yield runs_directory(runs_dir)
    yield token(os.environ, Path.home())
    yield guarded("Atari ROMs", _roms)
    yield guarded("video", _ffmpeg)
    yield _gl()


def guarded(what: str, look: Callable[[], Finding]) -> Finding:
    """Return the finding of `look`; whatever it raises is the finding."""
    try:
        return look()
    except Exception as error:
        return Finding(what, "broken", f"{type(error).__name__}: {' '.join(str(error).split())}")


def packages(constraints: Path = guard.HOME / "constraints.txt") -> Iterator[Finding]:
    """Compare what is installed with what is required and with the tested versions."""
    tested = {}
    if constraints.is_file():
        pins = re.findall(r"^([\w.-]+)==(\S+)", constraints.read_text(encoding="utf-8"), re.M)
        tested = {_plain(name): version for name, version in pins}
    for requirement in metadata.requires("repertory") or []:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "broken", f"not installed; {requirement} is required: make setup")
            continue
        pin = tested.get(_plain(name))
        if pin is None or release_of(found) == pin:
            yield Finding(name, "ok", found)
        else:
            yield Finding(name, "warning", f"{found}, tested with {pin}")


def runs_directory(path: Path) -> Finding:
    """Say whether runs can be kept under `path`."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding("run directory", "broken", f"{path}: {error.strerror}; use --runs-dir")
    status: Status = "ok" if free > 5 * GIB else "warning"
    return Finding("run directory", status, f"{path.absolute()}, {free / GIB:.0f} GiB free")


def token(environment: os._Environ[str] | dict[str, str], home: Path) -> Finding:
    """Say whether Ray's token, which gives full control of a cluster, is for its owner alone."""
    chosen = environment.get("RAY_AUTH_TOKEN_PATH")
    file = Path(chosen) if chosen else home / ".ray" / "auth_token"
    mode = environment.get("RAY_AUTH_MODE", "not set")
    if not file.is_file():
        status: Status = "broken" if chosen else "ok"
        return Finding("Ray token", status, f"no file {file}; RAY_AUTH_MODE is {mode}")
    try:
        file.read_bytes()
    except OSError as error:
        return Finding("Ray token", "broken", f"{file} cannot be read: {error.strerror}")
    bits = stat.S_IMODE(file.stat().st_mode)
    if bits & _TOKEN_MASK:
        return Finding("Ray token", "warning", f"{file} can be read by others: chmod 600 {file}")
    return Finding("Ray token", "ok", f"{file}, mode {bits:o}; RAY_AUTH_MODE is {mode}")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info < MINIMUM_PYTHON:
        return Finding("Python", "broken", f"{found}; 3.11 or newer is required")
    return Finding("Python", "ok", f"{found}, {platform.system()} {platform.machine()}")


def _names() -> Finding:
    fault = guard.foreign_package()
    return Finding("our packages", "broken" if fault else "ok", fault or str(guard.HOME))


def _processor() -> Finding:
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    fast = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags]
    cores = len(os.sched_getaffinity(0))
    bf16 = "bf16 in hardware" if {"amx_bf16", "avx512_bf16"} & flags else "no bf16 in hardware"
    return Finding(
        "processor", "ok", f"{cores} cores, {bf16} ({' '.join(fast) or 'flags unknown'})"
    )


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
    detail = (
        f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} available; "
        f"{shared / GIB:.1f} GiB of /dev/shm free"
    )
    if shared < GIB / 5:
        return Finding("memory", "warning", f"{detail}: Ray keeps unrolls there, raise --shm-size")
    return Finding("memory", "ok", detail)


def _compiler() -> Finding:
    found = compiler()
    if found is None:
        return Finding("C++ compiler", "ok", "none; only --learner.compile on needs one")
    return Finding("C++ compiler", "ok", found)


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", "ok", f"none for torch {torch.__version__}; updates run on the CPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding("GPU", "ok", ", ".join(names))


def _roms() -> Finding:
    from envs.atari import catalog

    return Finding("Atari ROMs", "ok", f"{len(catalog.games())} games that can be played alone")


def _ffmpeg() -> Finding:
    import imageio_ffmpeg

    version = imageio_ffmpeg.get_ffmpeg_version()
    return Finding("video", "ok", f"ffmpeg {version} of imageio-ffmpeg")


def _gl() -> Finding:
    chosen = os.environ.get("MUJOCO_GL", "not set")
    found = [name for name in ("EGL", "OSMesa") if ctypes.util.find_library(name)]
    if not found:
        cure = "install libegl1 and libgl1-mesa-dri, or libosmesa6, to film MuJoCo tasks"
        return Finding("GL", "warning", f"neither EGL nor OSMesa: {cure}")
    return Finding("GL", "ok", f"{' and '.join(found)}; MUJOCO_GL is {chosen}")
