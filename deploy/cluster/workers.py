"""The rollout workers of a run on Ray: what dies or falls silent is replaced, and where a run
follows a cluster, workers come and go with its free cores.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from deploy import build
from deploy.cluster import nodes
from deploy.cluster.balance import giving_way, lowest_free
from deploy.cluster.faults import START_S, End, why_ended
from deploy.cluster.placements import Placements
from deploy.cluster.remote_classes import remote_class
from deploy.cluster.worker_ends import WorkerEnds
from deploy.cluster.worker_host import WorkerHost
from deploy.cluster.worker_lines import WorkerLines, log_last_words
from deploy.worker_numbers import follows_cluster, planned_workers
from repertory.config import RunConfig

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)

LOOK_S = 3.0
"""Between two looks at the cluster's free cores."""
EMPTY_S = 10.0
"""A number that nobody has for so long gets the core of a higher one: a process that died has given
its own back by then.
"""
LATE_S = 60.0
"""A replacement whose process is not there after so long, with no core free, waits for a core: one
that only starts takes less. Of a worker that is asked for anew for that reason, or for the first
time, it is not believed before `START_S`.
"""
LAST_LINES_S = 5.0
"""At the end of a run, for what workers have to say: one that hangs says nothing at all."""


@dataclass(slots=True)
class _Worker:
    """One rollout worker as the driver sees it."""

    handle: Any
    running: Any
    since: float
    replaces: bool
    """Whether it came in the place of one that had died, of the same number."""


class Workers:
    """Workers by number, of which each has its tasks; `door_for` says whom a number delivers to."""

    def __init__(
        self,
        config: RunConfig,
        tasks: Sequence[str],
        run: RunDirectory,
        door_for: Callable[[int], Any],
    ) -> None:
        self._config = config
        self._json = config.model_dump_json()
        self._tasks = list(tasks)
        self._run = run
        self._door_for = door_for
        self._follows = follows_cluster(config)
        self._workers: dict[int, _Worker] = {}
        self._placements = Placements(run, None if self._follows else planned_workers(config))
        self._lines = WorkerLines()
        self._ends = WorkerEnds(config)
        self._looked = 0.0
        self._empty_since: dict[int, float] = {}
        self._told = 0
        self._reasons: list[str] = []
        self.incarnation = 0
        """The newest that any worker has."""

    # -- life ------------------------------------------------------------------------------------

    def start(self, incarnation: int) -> None:
        """Ask for the workers that the run begins with."""
        self._begin(range(planned_workers(self._config)), incarnation)

    def _begin(self, numbers: Iterable[int], incarnation: int, *, replaces: bool = False) -> None:
        """Ask for these workers in their order, in which Ray gives them cores that become free."""
        self.incarnation = max(self.incarnation, incarnation)
        place = nodes.suiting("actor") if self._config.address else {}
        host = remote_class(WorkerHost).options(
            num_cpus=1, max_restarts=0, max_concurrency=2, **place
        )
        for number in numbers:
            tasks = [self._tasks[task] for task in dict.fromkeys(self._lanes(number))]
            handle = host.remote(self._json, self._door_for(number), number, incarnation, tasks)
            self._workers[number] = _Worker(handle, handle.run.remote(), time.monotonic(), replaces)
            self._placements.expect(number, incarnation, tasks, handle)

    def _lanes(self, number: int) -> tuple[int, ...]:
        return build.assignment(self._config, len(self._tasks), number)

    def _end(self, number: int) -> None:
        ray.kill(self._workers.pop(number).handle, no_restart=True)
        self._lines.forget(number)
        self._placements.forget(number)

    def process_ids(self) -> list[int]:
        """Return the workers' process ids, in the order of their numbers."""
        handles = [self._workers[n].handle.process_id.remote() for n in sorted(self._workers)]
        return [int(pid) for pid in ray.get(handles, timeout=START_S)]

    def stop(self) -> None:
        """Let all finish what they are at."""
        for worker in self._workers.values():
            worker.handle.stop.remote()

    def kill(self) -> None:
        """End whatever still lives of them."""
        self._placements.close()
        for worker in self._workers.values():
            ray.kill(worker.handle, no_restart=True)

    # -- watch -----------------------------------------------------------------------------------

    def watch(self, silent_s: Mapping[int, float], *, reserved: int) -> None:
        """Replace workers that died or fell silent; give the run the cores that are free.

        `silent_s` is how long the learner has not heard of each worker, and `reserved` the number
        of free cores that another part of the run waits for.
        """
        running = [worker.running for worker in self._workers.values()]
        ended, _ = ray.wait(running, num_returns=len(running), timeout=0) if running else ([], [])
        for number in self._placements.arrived():
            self._workers[number].since = time.monotonic()
        for number, worker in list(self._workers.items()):
            if worker.running in ended:
                self._lose(number, why_ended(worker.running))
            elif not self._waits_for_a_core(number):
                self._hear(number, worker, silent_s)
        # In a cluster of the run's own every part has its core, and nodes do not come or go.
        if self._config.address and time.monotonic() - self._looked > LOOK_S:
            self._look(reserved)
            self._looked = time.monotonic()

    def _hear(self, number: int, worker: _Worker, silent_s: Mapping[int, float]) -> None:
        alive_s = time.monotonic() - worker.since
        heard_s = silent_s.get(number, alive_s)
        silent = min(heard_s, alive_s)
        # Importing torch and building emulators comes before the first unroll; what was heard
        # before this worker began came from its predecessor.
        starting_s = START_S if heard_s >= alive_s else 0.0
        if silent > self._config.actors.timeout_s + starting_s:
            self._lose(number, End(f"silent for {silent:.0f} s"))

    def _waits_for_a_core(self, number: int) -> bool:
        waited_s = self._placements.waiting_s(number)
        if waited_s is None:
            return False
        # A start can get stuck on a node that fell silent meanwhile: then there are cores free.
        return waited_s < START_S or free_cores() < 1

    def _lose(self, number: int, end: End) -> None:
        reason = end.reason
        known = self._placements.known.get(number)
        self._end(number)
        then = "it starts again on a free core" if self._follows else "starting a replacement"
        log.warning("worker %d: %s; %s", number, reason, then)
        self._run.event(
            "worker_lost" if self._follows else "worker_replaced", worker=number, reason=reason
        )
        if known is not None:
            log_last_words(known)
        self._ends.note(number, known.node_id if known else "", end)
        self._ends.check()
        if self._follows:
            where = f" on {known.node}" if known else ""
            self._reasons.append(f"worker {number}{where}: {reason}")
        else:
            self._begin([number], self.incarnation + 1, replaces=True)

    # -- cores that come and go ------------------------------------------------------------------

    def _look(self, reserved: int) -> None:
        self._ends.check()
        free = free_cores()
        late = {number for number in self._workers if free < 1 and self._is_late(number)}
        playing = set(self.playing_since())
        if self._follows:
            self._follow(free - reserved, playing, late)
            self._tell(len(playing))
        elif stopping := giving_way(playing, late):
            # All that wait are asked for anew: Ray serves them in the order in which they came.
            log.info("workers %s stop for others that wait, of lower numbers", stopping)
            self._run.event("workers_gave_way", workers=stopping)
            anew = sorted(late | set(stopping))
            for number in anew:
                self._end(number)
            self._begin(anew, self.incarnation + 1)

    def _is_late(self, number: int) -> bool:
        allowed_s = LATE_S if self._workers[number].replaces else START_S
        return (self._placements.waiting_s(number) or 0.0) > allowed_s

    def _follow(self, free: int, playing: set[int], late: set[int]) -> None:
        # A core that was free has gone to somebody else, or with its node.
        for number in late:
            self._end(number)
        # Ray may count a core as free until a process is on it.
        new = lowest_free(self._workers, free - self._placements.waiting)
        self._begin(new, self.incarnation + 1)
        now = time.monotonic()
        empty = set(range(max(self._workers, default=0))) - self._workers.keys()
        self._empty_since = {n: self._empty_since.get(n, now) for n in empty}
        missed = [n for n, since in self._empty_since.items() if now - since > EMPTY_S]
        stopping = giving_way(playing, missed)
        for number, lower in zip(stopping, sorted(missed), strict=False):
            log.info("worker %d stops: its core goes to worker %d", number, lower)
            self._reasons.append(f"worker {number} gives its core to worker {lower}")
            self._end(number)
            # The core is seen to be free at one of the next looks.
            self._empty_since[lower] = now
        if stopping:
            self._run.event("workers_gave_way", workers=stopping)

    def _tell(self, count: int) -> None:
        if count == self._told:
            return
        grew = count > self._told
        why = {} if grew else {"reasons": self._reasons}
        log.info("%d workers, were %d", count, self._told)
        self._run.event(
            "workers_grew" if grew else "workers_shrank", before=self._told, workers=count, **why
        )
        self._told, self._reasons = count, []

    # -- records ---------------------------------------------------------------------------------

    def playing_since(self) -> dict[int, float]:
        """Return since when the process of each worker that has one is there, in monotonic time."""
        return {
            number: worker.since
            for number, worker in self._workers.items()
            if self._placements.waiting_s(number) is None
        }

    def health(self) -> dict[str, float]:
        """Return how many play and wait and were lost, and in a cluster the lanes of each task."""
        metrics = {
            "health/actors_alive": float(len(self._workers) - self._placements.waiting),
            "health/actors_waiting": float(self._placements.waiting),
            "health/actor_restarts": float(self._ends.count),
        }
        if self._config.address:
            lanes = Counter[int]()
            for number in self.playing_since():
                lanes.update(self._lanes(number))
            for task, name in enumerate(self._tasks):
                metrics[f"task/{name}/lanes"] = float(lanes[task])
        return metrics

    def ask_for_lines(self) -> None:
        """Ask all for what they warn of, but for those whose last answer is awaited."""
        there = self._placements.known
        self._lines.ask({n: worker.handle for n, worker in self._workers.items() if n in there})

    def take_lines(self) -> None:
        """Log what they warned of, as far as answers have come."""
        self._lines.take(0.0)

    def last_lines(self) -> None:
        """Log what they still have to say at the end of a run."""
        self.take_lines()
        self.ask_for_lines()
        self._lines.take(LAST_LINES_S)


def free_cores() -> int:
    """Return the cores of the cluster that no part of any job has, as Ray counts them."""
    return int(ray.available_resources().get("CPU", 0.0))
