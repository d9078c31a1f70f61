"""States out of checkpoints that say, in one sentence, which part of theirs is missing."""

from __future__ import annotations

from typing import Any

from repertory.errors import BadInput


class SavedState(dict[str, Any]):
    """A state, and every dictionary within it, that knows where in which checkpoint it lies.

    An earlier version may have written fewer parts than this one restores. Whoever asks for such a
    part gets the sentence for users instead of a KeyError; `get` and `in` work as ever.
    """

    def __init__(self, state: dict[str, Any], checkpoint: str, part: str = "") -> None:
        super().__init__({key: _known(state[key], checkpoint, part, key) for key in state})
        self._checkpoint = checkpoint
        self._part = part

    def __missing__(self, key: str) -> Any:
        where = f"part '{self._part}' of the checkpoint" if self._part else "the checkpoint"
        raise BadInput(
            f"{where} {self._checkpoint} has no '{key}': an earlier version of Repertory wrote it, "
            "and only that one can go on with it; a new run can begin with its weights: "
            "repertory finetune"
        )


def _known(value: Any, checkpoint: str, part: str, key: str) -> Any:
    match value:
        case dict():
            return SavedState(value, checkpoint, f"{part}/{key}" if part else key)
        case list():
            return [_known(one, checkpoint, part, key) for one in value]
        case _:
            return value
