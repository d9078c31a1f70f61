"""Freed memory stays in the process; measured in a process of its own, by its page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

from repertory.networks.kept_memory import keep_freed_memory

PROGRAM = """
import resource, sys
import torch
from repertory.networks.kept_memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def test_memory_asked_for_again_is_not_faulted_in_again() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not keep_freed_memory()
        return
    counts = {}
    for mode in ("kept", "returned"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, mode],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        counts[mode] = int(done.stdout)
    assert counts["kept"] * 10 < counts["returned"]
