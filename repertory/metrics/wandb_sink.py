"""Sends metrics to Weights & Biases from a thread of its own, so that no outage is felt by a run.

Measured with wandb 0.31: a refused connection holds `init` up for 101 s by default, and `finish`
waits for an absent server without end; both are bounded here.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from repertory.metrics import names
from repertory.metrics.heat_map import MatrixPicture, heat_map

log = logging.getLogger(__name__)

Mode = Literal["auto", "online", "offline", "disabled"]
_DISK_CHECK_S = 10.0
_GRACE_S = 10.0
"""What starting wandb's own process and leaving it may take beside the two timeouts."""


class _Row(NamedTuple):
    values: dict[str, Any]


class _Video(NamedTuple):
    name: str
    path: Path
    axes: dict[str, Any]


class _Checkpoint(NamedTuple):
    path: Path


_Item = _Row | _Video | _Checkpoint | MatrixPicture


class WandbSink:
    """One W&B run. Nothing here blocks for long or raises; `close` returns in bounded time.

    `mode` auto is online if wandb finds a key and offline otherwise; a server that does not answer
    within `init_timeout_s` makes the run an offline one, to be sent later with `wandb sync`. The
    queue holds `capacity` items; a fuller one loses its oldest, counted in `dropped`.
    """

    def __init__(
        self,
        directory: Path,
        run_id: str,
        *,
        project: str,
        mode: Mode = "auto",
        config: Mapping[str, Any],
        group: str = "",
        job_type: str = "train",
        tags: Sequence[str] = (),
        init_timeout_s: float = 20.0,
        finish_timeout_s: float = 60.0,
        capacity: int = 1000,
        minimum_free_bytes: int = 200_000_000,
    ) -> None:
        self.directory = Path(directory)
        self.run_id = run_id
        self.dropped = 0
        self.resolved: Literal["starting", "online", "offline", "disabled", "failed"] = "starting"
        self.url = ""
        self._arguments: dict[str, Any] = {
            "id": run_id,
            "name": run_id,
            "project": project,
            "dir": str(self.directory),
            "config": dict(config),
            "group": group or None,
            "job_type": job_type,
            "tags": list(tags),
            "resume": "allow",
        }
        self._init_timeout_s = init_timeout_s
        self._finish_timeout_s = finish_timeout_s
        self._capacity = capacity
        self._minimum_free_bytes = minimum_free_bytes
        self._queue: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._exit_code = 0
        self._axes: dict[str, Any] = {}
        self._failures = 0
        self._low_disk = False
        self._disk_checked = -_DISK_CHECK_S
        self._thread: threading.Thread | None = None
        wanted = os.environ.get("WANDB_MODE", "auto") if mode == "auto" else mode
        if wanted == "disabled":
            self.resolved = "disabled"
            return
        self._thread = threading.Thread(
            target=self._work, args=(wanted,), name="wandb sink", daemon=True
        )
        self._thread.start()

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Queue one row."""
        values = dict(row)
        self._axes = {axis: values[axis] for axis in names.X_AXES if axis in values}
        self._put(_Row(values))

    def video(self, name: str, path: Path) -> None:
        """Queue an MP4 file, charted at the x-axes of the last row."""
        self._put(_Video(name, Path(path), self._axes))

    def picture(self, matrix: MatrixPicture) -> None:
        """Queue a heat map; it is drawn by the sink's own thread."""
        self._put(matrix)

    def checkpoint_artifact(self, path: Path) -> None:
        """Queue a checkpoint for upload as an artifact of type model."""
        self._put(_Checkpoint(Path(path)))

    def close(self, exit_code: int = 0) -> None:
        """Send what is queued and end the W&B run, or give up after the timeouts."""
        thread = self._thread
        if thread is None:
            return
        with self._changed:
            self._closing = True
            self._exit_code = exit_code
            self._changed.notify()
        limit = self._finish_timeout_s + _GRACE_S
        if self.resolved == "starting":
            limit += self._init_timeout_s
        thread.join(limit)
        if thread.is_alive():
            log.warning(
                "W&B did not finish within %.0f s and is left; everything is in metrics.jsonl",
                limit,
            )
        elif self.dropped:
            log.warning("W&B: %d rows or files were dropped; metrics.jsonl has them", self.dropped)
        self._thread = None

    def _put(self, item: _Item) -> None:
        if self.resolved in ("disabled", "failed"):
            return
        with self._changed:
            if self._closing:
                return
            if len(self._queue) >= self._capacity:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(item)
            self._changed.notify()

    def _work(self, wanted: str) -> None:
        try:
            run = self._start(wanted)
            while (item := self._take()) is not None:
                self._send(run, item)
            run.finish(exit_code=self._exit_code)
        except Exception as error:  # whatever wandb raises is no reason to end a run
            self.resolved = "failed"
            log.warning("W&B failed and is left out, metrics.jsonl goes on: %r", error)

    def _take(self) -> _Item | None:
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return self._queue.popleft() if self._queue else None

    def _start(self, wanted: str) -> Any:
        import wandb  # takes a second, and a run without W&B need not pay it

        online = wanted not in ("offline", "dryrun")
        # Asked for online or not: without a key wandb would ask the terminal for one.
        if online and not _has_key(wandb):
            log.warning("no W&B key: logging offline to %s; later: wandb sync", self._wandb_folder)
            online = False
        try:
            run = self._init(wandb, "online" if online else "offline")
        except Exception as error:  # wandb's own errors, and those of whatever is below it
            if not online:
                raise
            log.warning(
                "W&B cannot be reached (%s): logging offline to %s; later: wandb sync",
                " ".join(str(error).split())[:200],
                self._wandb_folder,
            )
            online = False
            # The attempt that timed out still holds the run's identity in wandb's own process.
            wandb.teardown()
            run = self._init(wandb, "offline")
        run.define_metric(names.ENV_STEPS)
        run.define_metric("*", step_metric=names.ENV_STEPS)
        if online:
            self.url = run.url or ""
            log.info("W&B: %s", self.url)
        self.resolved = "online" if online else "offline"
        return run

    @property
    def _wandb_folder(self) -> Path:
        return self.directory / "wandb"

    def _init(self, wandb: Any, mode: str) -> Any:
        settings = wandb.Settings(
            init_timeout=self._init_timeout_s,
            finish_timeout=self._finish_timeout_s,
            console="off",  # its capture of stdout would fight with the terminal view
            silent=True,
            disable_git=True,  # the config has the commit
        )
        return wandb.init(mode=mode, settings=settings, **self._arguments)

    def _send(self, run: Any, item: _Item) -> None:
        if self._disk_is_low():
            self.dropped += 1
            return
        import wandb

        try:
            match item:
                # Never log(step=...): after a resume from an older checkpoint wandb would drop the
                # rows or merge them into earlier ones. env_steps is a value like the others.
                case _Row(values):
                    run.log(values)
                case _Video(name, path, axes):
                    run.log({**axes, name: wandb.Video(str(path), format="mp4")})
                case MatrixPicture(name, caption, axes, values):
                    image = wandb.Image(heat_map(values), caption=caption)
                    run.log({**axes, name: image})
                case _Checkpoint(path):
                    artifact = wandb.Artifact(f"{self.run_id}-checkpoint", type="model")
                    artifact.add_dir(str(path))
                    run.log_artifact(artifact, aliases=["latest", path.name])
        except Exception as error:  # one row or file less is better than none at all
            self.dropped += 1
            self._failures += 1
            if self._failures == 1:
                log.warning("W&B did not take a %s: %r", type(item).__name__.strip("_"), error)

    def _disk_is_low(self) -> bool:
        """Whether to spare the disk: on a full one wandb floods stderr with tracebacks."""
        now = time.monotonic()
        if now - self._disk_checked >= _DISK_CHECK_S:
            self._disk_checked = now
            free = shutil.disk_usage(self.directory).free
            low = free < self._minimum_free_bytes
            if low and not self._low_disk:
                log.warning("%.0f MB free: W&B is paused until there is more", free / 1e6)
            self._low_disk = low
        return self._low_disk


def _has_key(wandb: Any) -> bool:
    """Whether wandb would find credentials: in the environment, its settings or netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    from wandb.sdk.lib import wbauth

    settings = wandb.setup().settings
    if settings.api_key or settings.identity_token_file:
        return True
    return bool(wbauth.read_netrc_auth(host=settings.base_url))
