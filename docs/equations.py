"""Formulas of the documentation: fenced `math` blocks of LaTeX become MathML, which browsers draw
without a script. Code hosts draw the same blocks.
"""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert
from pymdownx.superfences import SuperFencesException


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return a block of LaTeX as MathML, each line of it (ended by two backslashes) a formula.

    Raises:
        SuperFencesException: the block holds what cannot be drawn. Of any other exception the
            extension makes a block of code, and the build goes on.
    """
    lines = [line for line in " ".join(source.split()).split(r"\\") if line.strip()]
    try:
        drawn = "".join(convert(line, display="block") for line in lines)
    except Exception as error:  # the converter has a dozen kinds
        raise SuperFencesException(f"{type(error).__name__} in the formula: {source}") from error
    if "\\" in drawn:
        unknown = drawn[drawn.index("\\") :].split("<")[0]
        raise SuperFencesException(f"unknown command {unknown} in the formula: {source}")
    return f'<div class="math">{drawn}</div>'
