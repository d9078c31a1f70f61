"""Formulas of the documentation: fenced `math` blocks of LaTeX become MathML, which browsers draw
without a script. Code hosts draw the same blocks.
"""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return a block of LaTeX as MathML, each line of it (ended by two backslashes) a formula.

    Raises:
        ValueError: the block holds what cannot be drawn, which stops the build.
    """
    lines = [line for line in " ".join(source.split()).split(r"\\") if line.strip()]
    drawn = "".join(convert(line, display="block") for line in lines)
    if "\\" in drawn:
        unknown = drawn[drawn.index("\\") :].split("<")[0]
        raise ValueError(f"unknown command {unknown} in the formula: {source}")
    return f'<div class="math">{drawn}</div>'
