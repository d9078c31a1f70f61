"""What a run could not learn from, as a file: the batch of the last update that was not finite."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np

from repertory.durable_files import write_atomically
from repertory.errors import NumericalFailure

NAME = "nonfinite_batch.safetensors"

log = logging.getLogger(__name__)


def with_batch_kept(failure: NumericalFailure, run: Path) -> NumericalFailure:
    """Write the batch that the failure brings into the run's directory; return the failure with
    the file's name in its sentence, or as it was where there is nothing to write or no room.
    """
    from safetensors.numpy import save

    arrays = dict(_arrays("", failure.batch))
    if not arrays:
        return failure
    path = run / NAME
    try:
        write_atomically(path, save(arrays))
    except OSError as error:
        log.warning("the batch of the last update was not written: %s", error)
        return failure
    return NumericalFailure(f"{failure}; the last update's batch is in {path}")


def _arrays(prefix: str, value: object) -> Iterator[tuple[str, np.ndarray]]:
    """Return the arrays of a batch by the names of its fields."""
    if not is_dataclass(value):
        return
    for field in fields(value):
        inner = getattr(value, field.name)
        if isinstance(inner, np.ndarray):
            yield prefix + field.name, np.ascontiguousarray(inner)
        else:
            yield from _arrays(f"{prefix}{field.name}.", inner)
