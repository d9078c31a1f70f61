"""Names of tasks as a report shows them: without what all of them share, in a reader's order."""

from __future__ import annotations

from collections.abc import Sequence


def short_names(tasks: Sequence[str]) -> dict[str, str]:
    """Return the tasks' names without the folders that all of them share."""
    if len(tasks) < 2:
        return {task: task for task in tasks}
    parts = [task.split("/") for task in tasks]
    cut = 0
    while all(len(of) > cut + 1 and of[cut] == parts[0][cut] for of in parts):
        cut += 1
    return {task: "/".join(of[cut:]) for task, of in zip(tasks, parts, strict=True)}


def natural(name: str) -> list[tuple[int, int, str]]:
    """Order names as people do: m2 before m10."""
    pieces: list[tuple[int, int, str]] = []
    number = ""
    for character in name + "\0":
        if character.isdecimal():
            number += character
            continue
        if number:
            pieces.append((0, int(number), ""))
            number = ""
        pieces.append((1, 0, character))
    return pieces
