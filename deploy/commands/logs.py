"""`repertory logs RUN`: where the logs of a run's workers are, and their last lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from deploy.commands import Page, parse
from repertory.config import NonNegative, RunConfig, Settings
from repertory.errors import BadInput, ClusterFailure

if TYPE_CHECKING:
    from deploy.jobs.client import Jobs
    from deploy.worker_places import WorkerPlace
    from repertory.run_directory import RunDirectory

USAGE = "repertory logs RUN_DIR [--task T ...] [--node N ...] [--worker W ...] [options]"


class Options(Settings):
    """Whose logs."""

    run_dir: Path
    """Directory of a run on Ray, under way or over."""
    task: tuple[str, ...] = ()
    """Only workers that play one of these tasks."""
    node: tuple[str, ...] = ()
    """Only workers on one of these nodes, each given by its address."""
    worker: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Only these workers, each given by its number."""
    tail: NonNegative = 10
    """Last lines to show of each file; 0: only where the files are."""
    address: str = "http://127.0.0.1:8265"
    """The Jobs API of the cluster that the run joined, for files on other machines."""


def page() -> Page:
    """Return the help."""
    described = (
        "Every process that a worker had is listed, those before a restart too. Files on other "
        "machines come through the cluster's dashboard and need its token."
    )
    return Page(USAGE, described, (Options,))


def run(tokens: Sequence[str]) -> int:
    """Print places and last lines."""
    options = parse(Options, tokens, USAGE, ["run_dir"])
    from deploy.worker_places import chosen, read_places
    from repertory.run_directory import RunDirectory

    directory = RunDirectory.open(options.run_dir)
    config, _ = directory.read_config()
    places = read_places(directory.path)
    if not places:
        raise BadInput(_why_none(directory, config))
    found = chosen(places, tasks=options.task, nodes=options.node, workers=options.worker)
    reader = _Reader(options.address if config.address else "", options.tail)
    for place in found:
        print(place)
        for path in place.paths:
            print(f"  {path}")
            for line in reader.lines(place, path):
                print(f"    {line}")
    kept = f"what workers warned of is in {directory.log_file}"
    for reason in reader.reasons:
        print(f"repertory: warning: {reason}; {kept}", file=sys.stderr)
    return 0 if reader.read or not reader.reasons else ClusterFailure.exit_code


def _why_none(directory: RunDirectory, config: RunConfig) -> str:
    if config.runtime == "local":
        return (
            f"{directory.path} is a run of the local runtime, which has no workers of their own: "
            f"its log is {directory.log_file}"
        )
    return (
        f"{directory.path} has no workers.jsonl: no worker has come yet, or an earlier version of "
        f"Repertory made the run; its log is {directory.log_file}"
    )


class _Reader:
    """Reads files of this machine, and others through the Jobs API, which is asked once."""

    def __init__(self, address: str, count: int) -> None:
        self._address = address
        self._count = count
        self._jobs: Jobs | None = None
        self._refused = ""
        self.read = 0
        """How many files could be read."""
        self.reasons: dict[str, None] = {}
        """Why others could not, each reason once."""

    def lines(self, place: WorkerPlace, path: Path) -> list[str]:
        """Return the last lines of a file, or none where it cannot be read."""
        from deploy.worker_places import last_lines

        if not self._count:
            return []
        try:
            # Its name has the random identity of the process: no other machine has such a file.
            found = last_lines(path, self._count)
        except FileNotFoundError:
            try:
                found = self._fetched(place, path)
            except ClusterFailure as failure:
                self.reasons[str(failure)] = None
                return []
        except OSError as error:
            self.reasons[f"cannot read {path}: {error.strerror}"] = None
            return []
        self.read += 1
        return found

    def _fetched(self, place: WorkerPlace, path: Path) -> list[str]:
        from deploy.worker_places import own_lines

        if not self._address:
            raise ClusterFailure(
                f"{path.parent} is not on this machine: it was on {place.node}, in a cluster that "
                "the run had for itself"
            )
        where = f"the logs on {place.node} are in {path.parent} there"
        if self._refused:
            raise ClusterFailure(f"{where} ({self._refused})")
        try:
            if self._jobs is None:
                from deploy.jobs.client import Jobs

                self._jobs = Jobs(self._address)
        except ClusterFailure as failure:
            self._refused = str(failure)
            raise ClusterFailure(f"{where} ({failure})") from failure
        try:
            found = self._jobs.log_lines(place.node_id, path.name, self._count)
            return list(own_lines(found))
        except ClusterFailure as failure:
            # Of one node or one file: the next may be there.
            raise ClusterFailure(f"{where} ({failure})") from failure
