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
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import psutil
import tyro
from rich.console import Console

from benchmarks.run_processes import Processes, thread_seconds, threads_here
from benchmarks.scaling_table import Measured, around_marks, fill, markdown, terminal_table
from repertory.config import (
    ActorConfig,
    AtariConfig,
    CheckpointConfig,
    CountingConfig,
    EvaluationConfig,
    LearnerConfig,
    LoggingConfig,
    NetworkConfig,
    QueueConfig,
    RunConfig,
)
from repertory.errors import BadInput, ClusterFailure

if TYPE_CHECKING:
    from deploy.cluster.supervisor import Supervisor
    from repertory.run_directory import RunDirectory

MIB = 2**20
# Unique memory of a worker with torch and of everything that is there once: Ray, learner, driver.
WORKER_BYTES = 200 * MIB
COMMON_BYTES = 1200 * MIB
START_S = 600.0
PULL_S = 0.5


@dataclass(frozen=True)
class Options:
    """What to measure."""

    workers: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of workers, one run each."""
    suite: Literal["counting", "atari"] = "counting"
    """counting: steps that sleep; atari: four games on the shallow network, for what unrolls of
    real size cost. Their rate is the machine's own, and `of ideal` is left out.
    """
    step_ms: float = 20.0
    """A step of all lanes of a worker takes so long, where it sleeps."""
    seconds: float = 20.0
    """Length of each measurement, after all workers have delivered."""
    lanes: int = 16
    unroll_length: int = 20
    hidden: int = 64
    """Width of the network, which is what is broadcast."""
    output: str = ""
    """File for the measurements as JSON."""
    markdown: str = ""
    """File whose marked table is filled with the measurements, for instance docs/scaling.md."""


def config_of(options: Options, workers: int) -> RunConfig:
    """Return the run that is measured: two unrolls of a worker fill half a batch."""
    if options.suite == "atari":
        played: dict[str, Any] = {
            "tasks": tuple(f"atari/breakout/m{mode}d0" for mode in (0, 4, 16, 20)),
            "environment": AtariConfig(),
            "network": NetworkConfig(torso="shallow"),
        }
    else:
        played = {
            "tasks": tuple(f"counting/{index}" for index in range(4)),
            # Episodes so long that their resets and records do not count.
            "environment": CountingConfig(
                episode_length=1000, step_seconds=options.step_ms / 1000 / options.lanes
            ),
            "network": NetworkConfig(torso="mlp", hidden=options.hidden),
        }
    return RunConfig.model_validate(
        {
            "recipe": "bench-scaling",
            **played,
            "held_out": (),
            "total_steps": 10**12,
            "actors": ActorConfig(count=workers, lanes=options.lanes),
            "queue": QueueConfig(max_policy_lag=10_000),
            "learner": LearnerConfig(
                batch_size=4 * options.lanes,
                unroll_length=options.unroll_length,
                device="cpu",
                compile="off",
            ),
            "logging": LoggingConfig(wandb="disabled"),
            "checkpoint": CheckpointConfig(every_s=1e9),
            "evaluation": EvaluationConfig(at_end=False),
        }
    )


def check(options: Options) -> None:
    """Raise BadInput for what cannot be measured here."""
    wrong = [count for count in options.workers if count < 1]
    if wrong or not options.workers:
        raise BadInput(f"workers: need numbers above 0, got {wrong[0] if wrong else 'none'}")
    # Steps are counted when their unroll comes: a window of few unrolls counts one too many or few.
    least_s = 10 * options.unroll_length * options.step_ms / 1000
    if options.suite == "counting" and options.seconds < least_s:
        raise BadInput(
            f"seconds: {options.seconds:g} hold fewer than ten unrolls of {options.unroll_length} "
            f"steps of {options.step_ms:g} ms; use at least {least_s:g}"
        )
    free = psutil.virtual_memory().available
    most = int((free - COMMON_BYTES) // WORKER_BYTES)
    if max(options.workers) > most:
        raise BadInput(
            f"{max(options.workers)} workers take about "
            f"{(max(options.workers) * WORKER_BYTES + COMMON_BYTES) / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free: at most {max(most, 0)} fit"
        )
    if options.markdown:
        around_marks(Path(options.markdown))
    if options.output and not Path(options.output).absolute().parent.is_dir():
        raise BadInput(f"output: there is no folder for {options.output}")


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
            rate * options.step_ms / 1000 / (workers * options.lanes)
            if options.suite == "counting"
            else None
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


def command(options: Options) -> str:
    """Return what to type to measure the same again."""
    played = (
        f"--step-ms {options.step_ms:g} --hidden {options.hidden}"
        if options.suite == "counting"
        else f"--suite {options.suite}"
    )
    return (
        f"repertory bench scaling --workers {' '.join(str(count) for count in options.workers)} "
        f"{played} --seconds {options.seconds:g} --lanes {options.lanes} "
        f"--unroll-length {options.unroll_length}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the files that were asked for."""
    options = tyro.cli(Options, args=argv, prog="repertory bench scaling")
    check(options)
    console = Console()
    rows: list[Measured] = []
    for workers in options.workers:
        rows.append(measure(options, workers))
        console.print(
            f"{workers} worker{'s' if workers > 1 else ''}: {rows[-1].steps_per_s:,.0f} steps/s"
            + ("" if (share := rows[-1].ideal_share) is None else f", {share:.0%} of ideal")
        )
        if options.output:
            found = {"options": asdict(options), "measured": [asdict(row) for row in rows]}
            Path(options.output).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    slept = f"{options.step_ms:g} ms per step of all lanes"
    console.print(terminal_table(rows, slept if options.suite == "counting" else options.suite))
    if options.markdown:
        fill(Path(options.markdown), markdown(rows, command(options)))


if __name__ == "__main__":
    main()
