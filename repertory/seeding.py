"""Named random streams of one seed, so that no two parts share noise and none depends on another's
draws.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """Return the generator of the stream named by `path`, for instance ("actor", 3, "lane", 7).

    The same path gives the same stream on every machine; different paths give independent streams
    (numpy's
    SeedSequence mixes the words).
    """
    words = [seed, *(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def integer(seed: int, *path: str | int, bits: int = 31) -> int:
    """Return one integer in [0, 2**bits) from the stream, for libraries that take an int as
    seed.
    """
    return int(stream(seed, *path).integers(0, 2**bits))
