"""The books of a chaos run: every step that was acted is kept, rolled back or lost under way, once.

Each process of the run has a file of its own, in which a line is one write: a killed process leaves
whole lines. Workers write down what they deliver before they send it; the replay's process writes
down what it takes, what a checkpoint has of it, and what it takes up of one. "Steps" are valid
steps, by task.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "REPERTORY_CHAOS_BOOKS"
"""Environment variable with the folder of the books, for the processes of a run."""

Delivery = tuple[int, int, int]
"""Worker, incarnation and sequence number."""


class Book:
    """What one process writes down."""

    def __init__(self, part: str, folder: Path | None = None) -> None:
        """Begin the book of a "worker" or the "replay", named by when it began."""
        folder = Path(os.environ[FOLDER]) if folder is None else folder
        name = f"{part}-{time.monotonic_ns():020d}-{os.getpid()}.jsonl"
        self._descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, what: str, **entry: Any) -> None:
        """Append one line."""
        os.write(self._descriptor, (json.dumps({"what": what, **entry}) + "\n").encode())


@dataclass(frozen=True)
class Books:
    """What all processes of a run wrote down."""

    acted: dict[Delivery, Sequence[int]]
    """Steps of each delivery, by the worker that acted them."""
    replays: Sequence[Sequence[dict[str, Any]]]
    """Entries of the replay's processes, which followed one another."""


@dataclass(frozen=True)
class Account:
    """Where the steps that were acted have gone to."""

    acted: int
    kept: int
    """In the last checkpoint."""
    rolled_back: int
    """Taken after a checkpoint that the run went back to, or after the last one."""
    under_way: int
    """In deliveries that never came: of a worker at most those that await their receipt."""
    lost_deliveries: int

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.acted:,} steps acted = {self.kept:,} kept + {self.rolled_back:,} rolled back "
            f"to checkpoints + {self.under_way:,} lost under way ({self.lost_deliveries} "
            "deliveries)"
        )


def read_books(folder: Path) -> Books:
    """Read what was written down so far."""
    acted: dict[Delivery, Sequence[int]] = {}
    for file in sorted(folder.glob("worker-*.jsonl")):
        for entry in _entries(file):
            acted[_delivery(entry)] = entry["steps"]
    return Books(acted, [_entries(file) for file in sorted(folder.glob("replay-*.jsonl"))])


def _entries(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _delivery(entry: dict[str, Any]) -> Delivery:
    return entry["worker"], entry["incarnation"], entry["sequence"]


def settle(books: Books, kept: Sequence[int], outstanding: int) -> tuple[Account, list[str]]:
    """Return the account of a run that ended, and what is wrong with it, in sentences.

    `kept` are the steps by task that the last checkpoint has, and `outstanding` the deliveries of a
    worker that may await their receipt.
    """
    wrong = _wrong_deliveries(books)
    lost, unexplained = _lost(books, outstanding)
    wrong += unexplained
    rolled_back, misremembered = _rolled_back(books, kept)
    wrong += misremembered
    account = Account(
        acted=_total(books.acted.values()),
        kept=sum(kept),
        rolled_back=rolled_back,
        under_way=_total(books.acted[one] for one in lost),
        lost_deliveries=len(lost),
    )
    if account.acted != account.kept + account.rolled_back + account.under_way:
        wrong.append(f"the sum does not come out: {account}")
    return account, wrong


def _total(steps: Iterable[Sequence[int]]) -> int:
    return sum(sum(one) for one in steps)


def _taken(books: Books) -> list[dict[str, Any]]:
    return [entry for replay in books.replays for entry in replay if entry["what"] == "taken"]


def _wrong_deliveries(books: Books) -> list[str]:
    """What was taken was acted, as it is, and is taken once in all the run."""
    taken = _taken(books)
    times = Counter(_delivery(entry) for entry in taken)
    wrong = [f"delivery {one} was taken {n} times" for one, n in times.items() if n > 1]
    for entry in taken:
        one = _delivery(entry)
        if one not in books.acted:
            wrong.append(f"delivery {one} was taken and nobody acted it")
        elif list(books.acted[one]) != list(entry["steps"]):
            wrong.append(
                f"of delivery {one} {entry['steps']} steps were counted, {books.acted[one]} acted"
            )
        if entry["torn"]:
            wrong.append(f"delivery {one} has steps of different episodes in one")
    return wrong


def _lost(books: Books, outstanding: int) -> tuple[list[Delivery], list[str]]:
    """Return what was acted and never taken; only a worker's very last deliveries may be that."""
    taken = {_delivery(entry) for entry in _taken(books)}
    newest: dict[tuple[int, int], int] = {}
    for worker, incarnation, sequence in books.acted:
        newest[worker, incarnation] = max(newest.get((worker, incarnation), 0), sequence)
    lost = [one for one in books.acted if one not in taken]
    wrong = [
        f"delivery {worker, incarnation, sequence} was lost, and the worker went on to "
        f"{newest[worker, incarnation]}"
        for worker, incarnation, sequence in lost
        if sequence <= newest[worker, incarnation] - outstanding
    ]
    return lost, wrong


def _rolled_back(books: Books, kept: Sequence[int]) -> tuple[int, list[str]]:
    """Return the steps that were taken and given up for a checkpoint's.

    What a checkpoint has is what was taken up to it, and a replay begins with what one had.
    """
    wrong, lost = [], 0
    saved: list[list[int]] = [[0] * len(kept)]
    ended: np.ndarray | None = None
    for number, replay in enumerate(books.replays):
        counted = np.zeros(len(kept), np.int64)
        for entry in replay:
            steps = entry.get("steps", [])
            if entry["what"] == "restored":
                counted = np.array(steps, np.int64)
                if steps not in saved:
                    wrong.append(f"replay {number} began with {steps}, which no checkpoint had")
            elif entry["what"] == "taken":
                counted = counted + np.array(steps, np.int64)
            elif entry["what"] == "saved":
                saved.append(steps)
                if steps != counted.tolist():
                    wrong.append(f"a checkpoint had {steps} of {counted.tolist()} steps taken")
        began = _began(replay, len(kept))
        if ended is not None:
            lost += int(ended.sum() - began.sum())
        ended = counted
    if list(kept) not in saved:
        wrong.append(f"the last checkpoint has {list(kept)}, which no replay had saved")
    if ended is not None:
        lost += int(ended.sum()) - sum(kept)
    return lost, wrong


def _began(replay: Sequence[dict[str, Any]], tasks: int) -> np.ndarray:
    restored = [entry["steps"] for entry in replay if entry["what"] == "restored"]
    return np.array(restored[0] if restored else [0] * tasks, np.int64)
