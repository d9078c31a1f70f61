"""What coordination costs as workers multiply: rate, lag, broadcast and CPU time per unroll.

The whole Ray runtime of a run on this machine, with the counting environment, whose step sleeps a
set time and costs next to nothing: so two cores hold dozens of workers, and what is left is what
the system itself takes. CPU seconds are compared, not only rates: they are there on any machine.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
import tyro
from rich.console import Console

from benchmarks.run_processes import Processes, thread_seconds, threads_here
from benchmarks.scaling_run import Options, check, command, config_of
from benchmarks.scaling_table import Measured, fill, markdown, terminal_table
from repertory.errors import ClusterFailure

if TYPE_CHECKING:
    from deploy.cluster.supervisor import Supervisor
    from repertory.run_directory import RunDirectory

MIB = 2**20
START_S = 600.0
PULL_S = 0.5


class Puller:
    """Ray actor that pulls the weights now and then, in the way of a worker."""

    def __init__(self, learner: Any) -> None:
        from deploy.cluster.worker_host import Answers, LearnerWeights

        self._weights = LearnerWeights(learner, Answers())
        # A worker hears of a newer version from a receipt; this one always asks.
        self._weights.announced = 10**12

    def pull(self) -> tuple[float, int, int]:
        """Return the seconds it took to hold the newest weights, their bytes, their version."""
        began = time.perf_counter()
        weights = self._weights.newer_than(-1)
        took = time.perf_counter() - began
        assert weights is not None
        return took, weights.vector.nbytes, weights.version


def measure(options: Options, workers: int) -> Measured:
    """Run `workers` workers until all have delivered, then look on for the window."""
    import ray

    from deploy import build
    from deploy.cluster.ray_session import ray_session
    from deploy.cluster.supervisor import Supervisor
    from deploy.recorder import Recorder
    from deploy.sinks import RunSinks
    from repertory.run_directory import RunDirectory

    config = config_of(options, workers)
    with tempfile.TemporaryDirectory() as folder, ray_session(config):
        run = RunDirectory.create(Path(folder), "bench", "bench")
        recorder = Recorder(config, build.tasks_of(config), run, RunSinks([], None))
        supervisor = Supervisor(config, run, recorder)
        try:
            supervisor.start(None)
            _wait_for_all(supervisor, workers)
            # Of no core: the cluster has one for each part of the run and none for us.
            puller = ray.remote(Puller).options(num_cpus=0).remote(supervisor.learner_actor())
            ray.get(puller.pull.remote(), timeout=START_S)
            found = _window(options, supervisor, puller, run)
        finally:
            recorder.close()
        supervisor.stop()
    return found


def _wait_for_all(supervisor: Supervisor, workers: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        beat = supervisor.heartbeat()
        if len(beat.silent_s) >= workers and beat.updates >= 3:
            return
        if time.monotonic() > deadline:
            raise ClusterFailure(
                f"{len(beat.silent_s)} of {workers} workers delivered within {START_S:.0f} s"
            )
        time.sleep(0.5)


def _window(options: Options, supervisor: Supervisor, puller: Any, run: RunDirectory) -> Measured:
    """Watch over the run as its driver does, for `options.seconds`."""
    import ray

    from deploy.cluster.supervisor import HEARTBEAT_S

    learner = supervisor.learner_actor()
    ids = supervisor.worker_process_ids()
    workers, processes = len(ids), Processes(ids)
    ray.get(learner.report.remote(), timeout=START_S)
    learner_id = ray.get(learner.process_id.remote(), timeout=START_S)
    threads = ray.get(learner.__ray_call__.remote(threads_here), timeout=START_S)
    machine = psutil.cpu_times()
    by_thread = thread_seconds(learner_id, threads)
    cpu, wall = processes.cpu_seconds(), time.perf_counter()
    first = supervisor.heartbeat()
    _, size, version = ray.get(puller.pull.remote(), timeout=START_S)
    beats, pulls = [], []
    while time.perf_counter() - wall < options.seconds:
        time.sleep(HEARTBEAT_S)
        began = time.perf_counter()
        last = supervisor.heartbeat()
        beats.append(time.perf_counter() - began)
        pulls.append(ray.get(puller.pull.remote(), timeout=START_S))
    spent = {name: now - cpu[name] for name, now in processes.cpu_seconds().items()}
    now_by_thread = thread_seconds(learner_id, threads)
    of_thread = {name: now_by_thread[name] - by_thread[name] for name in threads}
    wall = time.perf_counter() - wall
    others = _busy(psutil.cpu_times()) - _busy(machine) - sum(spent.values())
    report = ray.get(learner.report.remote(), timeout=START_S)
    pss = processes.largest_pss()
    steps = last.env_steps - first.env_steps
    unrolls = steps / (options.lanes * options.unroll_length)
    if not unrolls:
        raise ClusterFailure("nothing was delivered in the window: raise --seconds")
    rate = steps / wall
    cpu_ms = {name: 1000 * seconds / unrolls for name, seconds in spent.items()}
    return Measured(
        workers=workers,
        steps_per_s=rate,
        ideal_share=(
            rate * options.step_ms / 1000 / (workers * options.lanes) if options.sleeps else None
        ),
        learner_waiting=report.metrics.get("learner/waiting", 0.0),
        lag_versions=report.metrics.get("lag/mean", 0.0),
        publications_per_s=(pulls[-1][2] - version) / wall,
        publication_kib=size / 1024,
        pull_ms=1000 * median(pull[0] for pull in pulls),
        heartbeat_ms=1000 * median(beats),
        unrolls_per_s=unrolls / wall,
        learner_cpu_ms=cpu_ms["learner"],
        event_loop_cpu_ms=1000 * of_thread["event loop"] / unrolls,
        updates_cpu_ms=1000 * (of_thread["updates"] + of_thread["prefetch"]) / unrolls,
        driver_cpu_ms=cpu_ms["driver"],
        ray_cpu_ms=cpu_ms["ray"],
        worker_cpu_ms=cpu_ms["worker"],
        worker_pss_mib=pss["worker"] / MIB,
        learner_pss_mib=pss["learner"] / MIB,
        cores_busy=sum(spent.values()) / wall,
        others_busy=max(0.0, others / wall),
        replaced=run.events.read_text().count('"worker_replaced"') if run.events.exists() else 0,
    )


def _busy(times: Any) -> float:
    return float(sum(times) - times.idle - times.iowait - getattr(times, "guest", 0.0))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the files that were asked for."""
    options = tyro.cli(Options, args=argv, prog="repertory bench scaling")
    check(options)
    console = Console()
    rows: list[Measured] = []
    for workers in options.workers:
        row = measure(options, workers)
        rows.append(row)
        said = f"{workers} worker{'s' if workers > 1 else ''}: {row.steps_per_s:,.0f} steps/s"
        if row.ideal_share is not None:
            said += f", {row.ideal_share:.0%} of ideal"
        console.print(said)
        if options.output:
            found = {"options": asdict(options), "measured": [asdict(row) for row in rows]}
            Path(options.output).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    title = f"{options.step_ms:g} ms per step of all lanes" if options.sleeps else options.suite
    console.print(terminal_table(rows, title))
    if options.markdown:
        fill(Path(options.markdown), markdown(rows, command(options)))


if __name__ == "__main__":
    main()
