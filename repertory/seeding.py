"""Named random streams of one seed, so that no two parts share noise and none depends on another's
draws.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

_WORD = (1 << 64) - 1


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


def generator_words(generator: np.random.Generator) -> np.ndarray:
    """Return the state of a PCG64 generator as six 64-bit words."""
    state: dict[str, Any] = generator.bit_generator.state  # type: ignore[assignment]
    value, increment = state["state"]["state"], state["state"]["inc"]
    words = [value >> 64, value & _WORD, increment >> 64, increment & _WORD]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def set_generator_words(generator: np.random.Generator, words: np.ndarray) -> None:
    """Put a PCG64 generator into a state of `generator_words`."""
    high, low, increment_high, increment_low, has_uint32, uinteger = (int(word) for word in words)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": increment_high << 64 | increment_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
