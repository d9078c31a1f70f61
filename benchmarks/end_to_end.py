"""What training on Ray makes of the cores: steps, CPU time of all processes, workers' memory."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.run_processes import Processes
from deploy import build
from repertory.config import RunConfig


@dataclass(frozen=True)
class EndToEnd:
    """What training did over the window."""

    steps_per_s: float
    steps_per_cpu_s: float
    cores_busy: float
    lag: float
    pss_mib: tuple[float, float]
    """Of the largest worker at the window's start and end: shared pages count in their share."""
    rss_mib: float


def end_to_end(config: RunConfig, seconds: float) -> EndToEnd:
    """Train on Ray for `seconds` after warm-up; count steps, CPU time of all processes, memory."""
    import ray

    from deploy.cluster.ray_session import ray_session
    from deploy.cluster.supervisor import Supervisor
    from deploy.recorder import Recorder
    from deploy.sinks import sinks_of
    from repertory.run_directory import RunDirectory

    tasks = build.tasks_of(config)
    with tempfile.TemporaryDirectory() as folder, ray_session(config):
        run = RunDirectory.create(Path(folder), "bench", "bench")
        with open(os.devnull, "w") as nothing:
            recorder = Recorder(
                config, tasks, run, sinks_of(config, tasks, run, Console(file=nothing))
            )
            supervisor = Supervisor(config, run, recorder)
            supervisor.start(None)
            while supervisor.heartbeat().updates < 30:
                time.sleep(0.2)
            learner = supervisor.learner_actor()
            ray.get(learner.report.remote(), timeout=60)
            ids = supervisor.worker_process_ids()
            processes = Processes(ids)
            workers = [psutil.Process(pid) for pid in ids]
            before = [worker.memory_full_info() for worker in workers]
            cpu, wall = sum(processes.cpu_seconds().values()), time.perf_counter()
            steps = supervisor.heartbeat().env_steps
            time.sleep(seconds)
            steps = supervisor.heartbeat().env_steps - steps
            wall = time.perf_counter() - wall
            cpu = sum(processes.cpu_seconds().values()) - cpu
            report = ray.get(learner.report.remote(), timeout=60)
            after = [worker.memory_full_info() for worker in workers]
            supervisor.stop()
            recorder.close()
    return EndToEnd(
        steps_per_s=steps / wall,
        steps_per_cpu_s=steps / cpu,
        cores_busy=cpu / wall,
        lag=report.metrics.get("lag/mean", float("nan")),
        pss_mib=(max(m.pss for m in before) / 2**20, max(m.pss for m in after) / 2**20),
        rss_mib=max(m.rss for m in after) / 2**20,
    )
