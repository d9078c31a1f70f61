"""The one writer of a run: metric rows, episode means, checkpoints, evaluations, in both
runtimes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from actors.evaluator import TaskScore
from deploy import build, evaluation
from deploy.sinks import RunSinks
from deploy.video.films import Film
from repertory import checkpoint
from repertory.config import RunConfig
from repertory.durable_files import write_atomically
from repertory.metrics import names
from repertory.metrics.aggregate import EpisodeAverages
from repertory.metrics.gradient_maps import CosineSums, GradientMaps
from repertory.metrics.guidance import GuideMatrices, GuideMatrix, strongest
from repertory.ports import State
from repertory.types import EnvironmentFault, EpisodeRecord, TaskSpec

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)


class Recorder:
    """Turns what the parts report into rows with the standard names and x-axes."""

    def __init__(
        self,
        config: RunConfig,
        tasks: Sequence[TaskSpec],
        run: RunDirectory,
        sink: RunSinks,
    ) -> None:
        self._config = config
        self._tasks = tuple(tasks)
        self._run = run
        self._sink = sink
        self._averages = EpisodeAverages([t.name for t in tasks], config.logging.window)
        guide = build.guide_of(config)
        self._matrices: GuideMatrices | None = None
        if guide is not None:
            candidates = guide.candidate_names([t.name for t in tasks])
            self._matrices = GuideMatrices(len(tasks), candidates, config.total_steps)
        self._gradients = GradientMaps([t.name for t in tasks], config.total_steps)
        self._started = time.monotonic()
        self._wall_before = 0.0
        self._last_row: tuple[float, int, int] | None = None
        self._failed_saves = 0
        self.save_failure = ""
        """Why the newest checkpoint could not be written; empty if it could."""

    @property
    def wall_s(self) -> float:
        """Seconds of training, those before a resume included."""
        return self._wall_before + time.monotonic() - self._started

    def episodes(self, records: Iterable[EpisodeRecord]) -> None:
        """Count finished episodes."""
        self._averages.add(records)

    def faults(self, faults: Iterable[EnvironmentFault]) -> None:
        """Note environments that failed, and warn of tasks that were given up over it."""
        for fault in faults:
            task = self._tasks[fault.task].name
            self._run.event(
                "environment_failed", task=task, reason=fault.reason, gave_up=fault.gave_up
            )
            if fault.gave_up:
                log.warning(
                    "a worker gave up %s after more than %d failures within %.0f s: %s",
                    task,
                    self._config.actors.environment_failures,
                    self._config.actors.failure_window_s,
                    fault.reason,
                )

    def row(
        self,
        env_steps: int,
        updates: int,
        metrics: Mapping[str, float],
        guides: Int64[np.ndarray, "M C"] | None = None,
        cosines: Sequence[CosineSums] = (),
    ) -> None:
        """Write one row: x-axes, rates since the last row, episode means, and `metrics`.

        Since the last row, `guides` are the steps of each task by whose policy acted, `cosines`
        those measured between the tasks' gradients.
        """
        wall = self.wall_s
        axes: dict[str, float | int] = {
            "env_steps": env_steps,
            "frames": env_steps * self._tasks[0].frames_per_step,
            "updates": updates,
            "wall_s": wall,
        }
        row: dict[str, float | int | str] = {**axes}
        if self._last_row is not None and wall > self._last_row[0]:
            elapsed = wall - self._last_row[0]
            row["actor/steps_per_s"] = (env_steps - self._last_row[1]) / elapsed
            row["learner/updates_per_s"] = (updates - self._last_row[2]) / elapsed
        self._last_row = (wall, env_steps, updates)
        row.update(self._averages.metrics())
        row.update(metrics)
        row["health/failed_checkpoints"] = self._failed_saves
        if guides is not None and self._matrices is not None:
            row.update(self._guidance(self._matrices.add(guides, axes), guides))
        for found in self._gradients.add(cosines, axes):
            self._sink.gradients(found)
        self._sink.write(row)

    def _guidance(
        self, due: GuideMatrix | None, guides: Int64[np.ndarray, "M C"]
    ) -> dict[str, float | int]:
        """Write the matrix that is due, and return who acts most for another task."""
        if due is not None:
            self._sink.guides(due)
        most = strongest(guides)
        if most is None:
            return {}
        return {
            names.STRONGEST_TASK: most.task,
            names.STRONGEST_GUIDE: most.guide,
            names.STRONGEST_SHARE: most.share,
        }

    def evaluation(
        self,
        env_steps: int,
        updates: int,
        scores: Sequence[TaskScore],
        films: Sequence[Film] = (),
    ) -> None:
        """Record an evaluation: a JSON file, a row of metrics, films under `videos/`."""
        if not scores:
            return
        seed = self._config.evaluation.seed
        try:
            evaluation.record(self._run, self._config, scores, step=env_steps, seed=seed)
        except OSError as error:
            self._not_written("evaluation", error)
        row: dict[str, float | int | str] = {
            "env_steps": env_steps,
            "frames": env_steps * self._tasks[0].frames_per_step,
            "updates": updates,
            "wall_s": self.wall_s,
        }
        row |= _scores_row(scores, {task.name for task in self._tasks})
        self._sink.write(row)
        for film in films:
            path = self._run.videos / f"step_{env_steps:012d}-{film.task.replace('/', '-')}.mp4"
            try:
                write_atomically(path, film.mp4)
            except OSError as error:
                self._not_written("film", error)
            else:
                self._sink.video(f"eval/video/{film.task}", path)

    def _not_written(self, what: str, error: OSError) -> None:
        log.warning("the %s was not written: %s; training goes on", what, error)
        self._run.event(f"{what}_not_written", reason=str(error))

    def save(self, state: State, *, last: bool = False) -> bool:
        """Write a checkpoint; a full disk is reported and survived, the last good one stays."""
        state["recorder"] = {
            "wall_s": self.wall_s,
            "averages": self._averages.state(),
            "guides": None if self._matrices is None else self._matrices.state(),
        }
        try:
            path = checkpoint.save(
                self._run.checkpoints,
                state,
                step=int(state["counters"]["env_steps"]),
                keep=self._config.checkpoint.keep,
            )
        except checkpoint.CheckpointFailed as failure:
            self._failed_saves += 1
            self.save_failure = str(failure)
            goes_on = "" if last else "training goes on and "
            log.warning("%s; %ssaving is tried again", failure, goes_on)
            self._run.event("checkpoint_failed", reason=str(failure))
            return False
        if self.save_failure:
            log.info("%s is saved: the disk takes checkpoints again", path.name)
            # With it the events that found no room are written, too.
            self._run.event("checkpoint_saved_again", checkpoint=path.name)
            self.save_failure = ""
        kept = self._config.logging.wandb_checkpoints
        if kept == "all" or (kept == "last" and last):
            self._sink.checkpoint(path)
        return True

    def restore(self, state: State) -> None:
        """Take up wall time, episode means and the guides at hand from a checkpoint."""
        saved = state["recorder"]
        self._wall_before = float(saved["wall_s"])
        self._started = time.monotonic()
        self._averages.restore(saved["averages"])
        if self._matrices is not None:
            # Checkpoints of earlier versions have none; other candidates' would be misread.
            guides = saved.get("guides")
            if guides is not None and tuple(guides["candidates"]) == self._matrices.candidates:
                self._matrices.restore(guides)
            else:
                self._matrices.since = int(state["counters"]["env_steps"])
        self._gradients.since = int(state["counters"]["env_steps"])

    def close(self) -> None:
        """Flush every sink; the matrices at hand are kept though they were not due."""
        rest = self._matrices.rest() if self._matrices is not None else None
        if rest is not None:
            self._sink.guides(rest)
        for found in self._gradients.rest():
            self._sink.gradients(found)
        self._sink.close()


def _scores_row(scores: Sequence[TaskScore], trained: Container[str]) -> dict[str, float]:
    """Return an evaluation's metrics: of each task, and each policy's means over the tasks that
    the run trains on, and apart from them over those held out.
    """
    row: dict[str, float] = {}
    means: dict[str, list[float]] = {}
    for score in scores:
        of_policy = f"eval/{score.policy}"
        found = {names.RETURN: score.mean, names.LENGTH: float(np.mean(score.lengths))}
        if score.successes:
            found[names.SUCCESS] = float(np.mean(score.successes))
        for metric, value in found.items():
            row[f"{of_policy}/task/{score.task}/{metric}"] = value
            if metric != names.LENGTH:
                over = of_policy if score.task in trained else f"{of_policy}/held_out"
                means.setdefault(f"{over}/{metric}_mean", []).append(value)
    return row | {name: float(np.mean(values)) for name, values in means.items()}
