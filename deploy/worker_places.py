"""workers.jsonl: which worker's process was where in a run, with which tasks, and where its log is.

One line per process in the order in which they came; a worker that was replaced has several.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from repertory.errors import BadInput, did_you_mean
from repertory.metrics.jsonl import JsonlSink, read_rows, to_json_line

log = logging.getLogger(__name__)

FILE = "workers.jsonl"
_OF_RAY = (":job_id:", ":actor_name:", ":task_name:")
"""Begin lines that Ray writes for itself into what a process prints."""


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """One process of a worker."""

    time: str = field(kw_only=True, default="")
    """When it came, UTC, of the driver's clock."""
    worker: int
    incarnation: int
    node: str
    """Address of its node."""
    node_id: str
    process_id: int
    actor_id: str
    folder: str
    """The log folder of Ray's session on that node."""
    files: tuple[str, ...]
    """Names in that folder."""
    tasks: tuple[str, ...]

    @property
    def paths(self) -> list[Path]:
        """The files of its log, on its node."""
        return [Path(self.folder, name) for name in self.files]

    def __str__(self) -> str:
        """Say in a line which worker this is."""
        return (
            f"worker {self.worker} (incarnation {self.incarnation}) on {self.node}, process "
            f"{self.process_id}, since {self.time}: {', '.join(self.tasks)}"
        )


class WorkerBook:
    """Appends to a run's workers.jsonl. Never raises because of the disk."""

    def __init__(self, run: Path) -> None:
        self._file = run / FILE
        self._sink: JsonlSink | None = None

    def enter(self, place: WorkerPlace) -> None:
        """Append one line, with the time of now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            if self._sink is None:
                self._sink = JsonlSink(self._file)
            self._sink.append(to_json_line(asdict(place) | {"time": now}))
        except OSError as error:
            log.error("cannot write to %s: %s", self._file, error)

    def close(self) -> None:
        """Close the file."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


def read_places(run: Path) -> list[WorkerPlace]:
    """Return the lines of a run's workers.jsonl; none where there is no such file.

    Raises:
        BadInput: the file cannot be read, or a line is not one of ours.
    """
    file = run / FILE
    try:
        return [_place(row) for row in read_rows(file)]
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{file} is damaged: {error!r}") from error


def _place(row: Mapping[str, Any]) -> WorkerPlace:
    values = {one.name: row[one.name] for one in fields(WorkerPlace)}
    for name in ("worker", "incarnation", "process_id"):
        values[name] = int(values[name])
    for name in ("files", "tasks"):
        values[name] = tuple(map(str, values[name]))
    return WorkerPlace(**values)


def chosen(
    places: Sequence[WorkerPlace],
    *,
    tasks: Sequence[str] = (),
    nodes: Sequence[str] = (),
    workers: Sequence[int] = (),
) -> list[WorkerPlace]:
    """Return the places that have one of each that is asked for.

    Raises:
        BadInput: a task, node or worker that no place has, with the nearest that one has; or no
            place has what is asked for together.
    """
    _check("task", tasks, [task for place in places for task in place.tasks])
    _check("node", nodes, [name for place in places for name in (place.node, place.node_id)])
    _check("worker", [str(one) for one in workers], [str(place.worker) for place in places])
    found = [
        place
        for place in places
        if (not tasks or set(tasks) & set(place.tasks))
        and (not nodes or {place.node, place.node_id} & set(nodes))
        and (not workers or place.worker in workers)
    ]
    if not found:
        asked = [*tasks, *(f"node {node}" for node in nodes), *(f"worker {one}" for one in workers)]
        raise BadInput(f"no worker has all that is asked for: {', '.join(asked)}")
    return found


def _check(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    there = dict.fromkeys(known)
    for name in asked:
        if name not in there:
            some = ", ".join(list(there)[:3])
            raise BadInput(
                f"no {what} '{name}' in the run's {FILE}.{did_you_mean(name, there)} It has "
                f"{some}{', ...' if len(there) > 3 else ''}"
            )


def last_lines(file: Path, count: int) -> list[str]:
    """Return the last lines of a file of this machine. Raises OSError."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        return list(deque(own_lines(stream), maxlen=count))


def own_lines(lines: Iterable[str]) -> Iterator[str]:
    """Leave out the lines that Ray writes for itself."""
    return (line.rstrip("\n") for line in lines if not line.startswith(_OF_RAY))
