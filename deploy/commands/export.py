"""`repertory export RUN [DIR]`: a run's agent as a folder to give away, free of pickle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.commands import Page, parse
from deploy.terminal_warnings import warnings_shown
from repertory.config import Settings
from repertory.errors import BadInput

USAGE = "repertory export RUN_DIR [DIRECTORY] [--checkpoint C]"


class Options(Settings):
    """What to export, and where to."""

    run_dir: Path
    """Directory of the run."""
    directory: Path | None = None
    """Folder to write, new or empty; without it, <name of the run>-agent where one stands."""
    checkpoint: Path | None = None
    """A folder under checkpoints/; without it, the newest good one."""


def page() -> Page:
    """Return the help."""
    return Page(
        USAGE,
        "Write weights (safetensors), settings and a model card that evaluate and watch accept.",
        (Options,),
    )


def run(tokens: Sequence[str]) -> int:
    """Export, and say what was written."""
    chosen = parse(Options, tokens, USAGE, ["run_dir", "directory"])
    from deploy.export.folder import check_new, is_exported
    from repertory.run_directory import RunDirectory

    directory = RunDirectory.open(chosen.run_dir)
    if is_exported(directory.path):
        raise BadInput(f"{chosen.run_dir} is an exported agent already: copy the folder")
    directory.read_config()
    folder = chosen.directory or Path(f"{directory.name}-agent")
    check_new(folder)
    if chosen.checkpoint is not None and not chosen.checkpoint.is_dir():
        raise BadInput(f"there is no checkpoint {chosen.checkpoint}")
    from deploy.export.run import export

    with warnings_shown():
        done = export(directory, folder, chosen.checkpoint)
    print(
        f"{done.checkpoint} of {directory.name}: {done.arrays} arrays, {done.megabytes:.1f} MB, "
        f"scores of {done.scored} of {done.tasks} tasks; written to {folder}"
    )
    return 0
