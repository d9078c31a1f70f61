"""`study.json`: the plan of a study and how far each job has come, written whole each time."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

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


@dataclass(frozen=True, slots=True)
class Saved:
    """What a study directory has of earlier calls."""

    settings: tuple[str, ...] = ()
    """Flags of every run that were given."""
    jobs: dict[str, dict[str, Any]] | None = None
    """By name, as they were written; None in a directory without a study."""


def read_saved(directory: Path, recipe: str) -> Saved:
    """Read a directory's study.json, if there is one.

    Raises:
        BadInput: the directory is another study's or none's, or the file is damaged.
    """
    file = directory / FILE
    if directory.exists() and not directory.is_dir():
        raise BadInput(f"{directory} is a file: choose another --dir")
    if not file.exists():
        found = directory.is_dir() and {path.name for path in directory.iterdir()}
        if found and found != {LOCK}:
            raise BadInput(
                f"{directory} is no study's: it has files and no {FILE}; choose another --dir"
            )
        return Saved()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        theirs, version = content["recipe"], content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    if version != FORMAT:
        raise BadInput(f"{file} has format {version!r}; this version reads {FORMAT}")
    if theirs != recipe:
        raise BadInput(f"{directory} is of the study {theirs}, not {recipe}: choose another --dir")
    try:
        known = {str(job["name"]): job for job in content["jobs"]}
        settings = tuple(map(str, content.get("settings", ())))
        for job in known.values():
            _words(job)
            _progress(job)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{file} is damaged ({type(error).__name__}: {error}): mend it, or choose another --dir"
        ) from error
    return Saved(settings, known)


class Ledger:
    """The jobs of one study directory and their progress."""

    def __init__(
        self,
        directory: Path,
        recipe: str,
        jobs: tuple[Job, ...],
        settings: tuple[str, ...] = (),
    ) -> None:
        """Take up what is there; nothing is written yet.

        Raises:
            BadInput: the directory is another study's, or was planned with other settings.
        """
        self.directory, self.jobs, self.settings = directory, jobs, settings
        self._recipe = recipe
        saved = read_saved(directory, recipe)
        if saved.jobs is not None and saved.settings != settings:
            before = f"the settings {shlex.join(saved.settings)}" if saved.settings else "none"
            raise BadInput(
                f"{directory} was planned with other settings than "
                f"{shlex.join(settings) or 'none'}, with {before}: give the same, or choose "
                "another --dir"
            )
        self._known = saved.jobs or {}
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
        content = {
            "format": FORMAT,
            "recipe": self._recipe,
            "settings": self.settings,
            "jobs": list(self._known.values()),
        }
        write_atomically(self.directory / FILE, json.dumps(content, indent=1) + "\n")

    def _taken_up(self, job: Job) -> Progress:
        """Return a job's progress; what was cut short or failed waits again."""
        saved = self._known.get(job.name)
        if saved is None:
            return Progress()
        if _words(saved) != job.words:
            raise BadInput(
                f"{self.directory} was planned with other settings ({job.name} was 'repertory "
                f"{' '.join(_words(saved))}'): choose another --dir"
            )
        progress = _progress(saved)
        if progress.status in ("running", "failed"):
            return replace(progress, status="waiting")
        return progress


def _words(job: dict[str, Any]) -> tuple[str, ...]:
    words = job["words"]
    if not isinstance(words, list):
        raise ValueError(f"words of {job['name']} are no list")
    return tuple(map(str, words))


def _progress(job: dict[str, Any]) -> Progress:
    saved = job["progress"]
    if saved["status"] not in get_args(Status):
        raise ValueError(f"{job['name']} has the status {saved['status']!r}")
    return Progress(**saved)
