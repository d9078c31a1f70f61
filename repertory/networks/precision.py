"""Which number format products are computed in, on which hardware."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from repertory.config import Precision


@cache
def _processor_flags() -> frozenset[str]:
    """Return the instruction sets of this processor, empty where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def has_fast_bf16(device: torch.device) -> bool:
    """Say whether bfloat16 products are faster than float32 ones here."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(_processor_flags() & {"avx512_bf16", "amx_bf16"})


def number_format(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the format of products for a precision setting on a device."""
    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
