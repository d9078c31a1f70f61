"""`study.json`: the plan of a study and how far each job has come, written whole each time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from deploy.study.plan import Job
from repertory.durable_files import write_atomically
from repertory.errors import BadInput

FILE = "study.json"
LOCK = "LOCK"
FORMAT = 1
Status = Literal["waiting", "running", "trained", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come."""

    status: Status = "waiting"
    """trained: what is left is an evaluation."""
    attempts: int = 0
    seconds: float = 0.0
    """Over all attempts."""
    error: str = ""
    """Last line of what a failed attempt said."""


class Ledger:
    """The jobs of one study directory and their progress."""

    def __init__(self, directory: Path, recipe: str, jobs: tuple[Job, ...]) -> None:
        """Take up what is there; nothing is written yet.

        Raises:
            BadInput: the directory is another study's, or was planned with other settings.
        """
        self.directory, self.jobs = directory, jobs
        self._recipe = recipe
        self._known = self._read()
        self.progress = {job.name: self._taken_up(job) for job in jobs}

    def set(self, job: Job, **changes: Any) -> None:
        """Note a job's progress on disk."""
        self.progress[job.name] = replace(self.progress[job.name], **changes)
        self.write()

    def ready(self) -> list[Job]:
        """Return the jobs that could begin now."""
        return [
            job
            for job in self.jobs
            if self.progress[job.name].status in ("waiting", "trained")
            and all(self.progress[need].status == "done" for need in job.needs)
        ]

    def of(self, status: Status) -> list[Job]:
        """Return the jobs of a status."""
        return [job for job in self.jobs if self.progress[job.name].status == status]

    def write(self) -> None:
        """Write plan and progress; jobs of more seeds than now asked for are kept."""
        self._known |= {
            job.name: {**asdict(job), "progress": asdict(self.progress[job.name])}
            for job in self.jobs
        }
        content = {"format": FORMAT, "recipe": self._recipe, "jobs": list(self._known.values())}
        write_atomically(self.directory / FILE, json.dumps(content, indent=1) + "\n")

    def _read(self) -> dict[str, Any]:
        file = self.directory / FILE
        if not file.exists():
            found = self.directory.is_dir() and {path.name for path in self.directory.iterdir()}
            if found and found != {LOCK}:
                raise BadInput(
                    f"{self.directory} is no study's: it has files and no {FILE}; choose another "
                    "--dir"
                )
            return {}
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            recipe, version = content["recipe"], content["format"]
            known = {job["name"]: job for job in content["jobs"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{file} cannot be read: {error}") from error
        if version != FORMAT:
            raise BadInput(f"{file} has format {version!r}; this version reads {FORMAT}")
        if recipe != self._recipe:
            raise BadInput(
                f"{self.directory} is of the study {recipe}, not {self._recipe}: choose another "
                "--dir"
            )
        return known

    def _taken_up(self, job: Job) -> Progress:
        """Return a job's progress; what was cut short or failed waits again."""
        saved = self._known.get(job.name)
        if saved is None:
            return Progress()
        if tuple(saved["words"]) != job.words:
            raise BadInput(
                f"{self.directory} was planned with other settings ({job.name} was 'repertory "
                f"{' '.join(saved['words'])}'): choose another --dir"
            )
        progress = Progress(**saved["progress"])
        if progress.status in ("running", "failed"):
            return replace(progress, status="waiting")
        return progress
