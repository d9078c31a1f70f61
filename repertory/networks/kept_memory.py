"""Keeps freed memory in the process, so that big intermediate results are not faulted in anew."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_TOP_PAD_BYTES = 64 * 2**20


@cache
def keep_freed_memory() -> bool:
    """Tell the C library to hold on to what this process frees; say whether it listens.

    glibc returns large blocks to the system at once, and the system hands them back as zeroed
    pages, one fault for every 4 KB. A network's forward and backward pass asks for the same blocks
    again and again: keeping them takes a fifth off the CPU time of a shallow network's update and
    a third off the residual network's, acting included. The process stays at its peak size.
    Elsewhere than on glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _TOP_PAD_BYTES))
    return all([library.mallopt(name, value) for name, value in settings])
