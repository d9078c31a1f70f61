"""Which metric sinks a run has: the record file always, the terminal, and W&B unless disabled.

A guided run also records who guides whom, one of several tasks how their gradients agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deploy import build
from repertory.config import RunConfig
from repertory.metrics.fan_out import FanOut
from repertory.metrics.gradient_maps import GradientMap
from repertory.metrics.guidance import GuideMatrix
from repertory.metrics.jsonl import JsonlSink, to_json_line
from repertory.metrics.terminal import TerminalView
from repertory.metrics.wandb_sink import WandbSink
from repertory.ports import MetricSink
from repertory.types import TaskSpec

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory


class RunSinks:
    """Rows to every sink; films and checkpoints to W&B, where there is one.

    Matrices of whose policy acted go to `guidance`, a file, and to W&B; maps of the tasks'
    gradients to a file that is opened for the first of them, and to W&B.
    """

    def __init__(
        self,
        sinks: Sequence[MetricSink],
        wandb: WandbSink | None,
        guidance: JsonlSink | None = None,
        gradients: Path | None = None,
    ) -> None:
        self._rows = FanOut([*sinks, *([wandb] if wandb is not None else [])])
        self._wandb = wandb
        self._guidance = guidance
        self._gradients_path = gradients
        self._gradients: JsonlSink | None = None

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Write one row to every sink."""
        self._rows.write(row)

    def video(self, name: str, path: Path) -> None:
        """Show a film that was written to `path`."""
        if self._wandb is not None:
            self._wandb.video(name, path)

    def guides(self, matrix: GuideMatrix) -> None:
        """Record whose policy acted, and show it as a heat map."""
        if self._guidance is not None:
            self._guidance.append(to_json_line(matrix.row()))
        if self._wandb is not None:
            self._wandb.picture(matrix.picture())

    def gradients(self, found: GradientMap) -> None:
        """Record how the tasks' gradients lie to each other, and show it as heat maps."""
        if self._gradients is None and self._gradients_path is not None:
            self._gradients = JsonlSink(self._gradients_path)
        if self._gradients is not None:
            self._gradients.append(to_json_line(found.row()))
        if self._wandb is not None:
            for picture in found.pictures():
                self._wandb.picture(picture)

    def checkpoint(self, path: Path) -> None:
        """Keep a checkpoint as an artifact."""
        if self._wandb is not None:
            self._wandb.checkpoint_artifact(path)

    def close(self) -> None:
        """Flush and end every sink, in bounded time."""
        for file in (self._guidance, self._gradients):
            if file is not None:
                file.close()
        self._rows.close()


def sinks_of(
    config: RunConfig,
    tasks: Sequence[TaskSpec],
    run: RunDirectory,
    console: Console | None = None,
    others: Sequence[MetricSink] = (),
) -> RunSinks:
    """Open the sinks of a run. `metrics.jsonl` comes first: it is the record."""
    names = [task.name for task in tasks]
    settings = config.logging
    wandb = None
    if settings.wandb != "disabled":
        wandb = WandbSink(
            run.path,
            run.wandb_id(),
            project=settings.wandb_project,
            mode=settings.wandb,
            config=config.model_dump(mode="json"),
            group=settings.wandb_group or config.recipe,
            # A stop must end within seconds also when the server is gone.
            finish_timeout_s=10.0,
            tags=[config.algorithm.kind, config.environment.suite, config.recipe],
        )
    view = TerminalView(names, config.total_steps, run.name, console=console)
    guidance = JsonlSink(run.guidance) if build.guide_of(config) is not None else None
    return RunSinks([JsonlSink(run.metrics), view, *others], wandb, guidance, run.gradients)
