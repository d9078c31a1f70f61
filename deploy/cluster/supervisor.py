"""Everything alive in a run on Ray: started, watched over, and asked for what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy import build
from deploy.cluster.evaluations import Evaluations
from deploy.cluster.learners import Learners
from deploy.cluster.messages import Heartbeat
from deploy.cluster.node_metrics import NodeMetrics
from deploy.cluster.worker_rates import WorkerRates
from deploy.cluster.workers import Workers
from deploy.recorder import Recorder
from repertory.config import RunConfig
from repertory.ports import State

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

HEARTBEAT_S = 0.5


class Supervisor:
    """Everything alive in one training run on Ray."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        recorder: Recorder,
        *,
        learner_restarts: int = 0,
        gpus: int | None = None,
    ) -> None:
        """Prepare; `gpus` is how many each learner takes, by default what the cluster can give."""
        self._recorder = recorder
        tasks = [task.name for task in build.tasks_of(config)]
        self._learner_restarts = learner_restarts
        self._nodes = NodeMetrics(config.logging.node_metrics, config.address)
        self.evaluations = Evaluations(config, tasks, run, recorder)
        self._learners = Learners(
            config, f"the newest checkpoint is kept: repertory train --resume {run.path}", gpus
        )
        self._rates = WorkerRates()
        self._workers = Workers(config, tasks, run, self._learners.door_for)

    # -- start -----------------------------------------------------------------------------------

    def start(self, state: State | None, *, incarnation: int = 0) -> None:
        """Create learner and workers and set them going; these are of `incarnation` or later."""
        self._learners.create(state)
        if state is not None:
            saved = int(state["counters"].get("incarnation", 0))
            incarnation = max(incarnation, saved + 1)
        # Workers build their emulators while the learner builds its network.
        self._workers.start(incarnation)
        self._learners.begin(state)

    def worker_process_ids(self) -> list[int]:
        """Return the workers' process ids (for tests that kill them)."""
        return self._workers.process_ids()

    def learner_actor(self) -> Any:
        """Return the learner's handle (for tests that kill it)."""
        return self._learners.first

    # -- watch -----------------------------------------------------------------------------------

    def heartbeat_of_learner(self) -> Heartbeat:
        """Hear the learner, and raise what ended its updates."""
        return self._learners.heartbeat()

    def heartbeat(self) -> Heartbeat:
        """Hear the learner, and see to the workers."""
        beat = self.heartbeat_of_learner()
        self._rates.hear(beat.delivered)
        self._workers.watch(beat.silent_s, reserved=self.evaluations.reserved_cores)
        return beat

    # -- records ---------------------------------------------------------------------------------

    def ask_report(self) -> None:
        """Ask learner and nodes for their metrics, unless these are awaited already, and workers
        for what they warn of.
        """
        self._learners.ask_report()
        self._nodes.ask()
        self._workers.ask_for_lines()

    def take_report(self, wait_s: float) -> None:
        """Write the report that was asked for, if it comes within `wait_s`."""
        self._workers.take_lines()
        report = self._learners.take_report(wait_s)
        if report is None:
            return
        self._recorder.episodes(report.episodes)
        self._recorder.faults(report.faults)
        health = self._workers.health()
        health |= self._rates.metrics(self._workers.playing_since())
        health["health/learner_restarts"] = float(self._learner_restarts)
        self._recorder.row(
            report.env_steps,
            report.updates,
            report.metrics | health | self._nodes.take(),
            report.guides,
            report.cosines,
        )

    def save(self, *, last: bool = False) -> bool:
        """Write a checkpoint."""
        state = self._learners.state()
        state["counters"]["incarnation"] = self._workers.incarnation
        return self._recorder.save(state, last=last)

    def begin_evaluation(self, beat: Heartbeat) -> bool:
        """Start an evaluation of the newest weights; False while another one is under way."""
        if self.evaluations.under_way:
            return False
        self.evaluations.begin(
            self._learners.newest(),
            beat.env_steps,
            beat.updates,
            critic=self._learners.critic_for_films(),
        )
        return True

    # -- end -------------------------------------------------------------------------------------

    @property
    def next_incarnation(self) -> int:
        """One that none of these workers had."""
        return self._workers.incarnation + 1

    def abandon(self) -> None:
        """Kill whatever still lives: another supervisor goes on from a checkpoint."""
        self.evaluations.abandon()
        self._nodes.stop()
        self._workers.kill()
        self._learners.kill()

    def stop(self) -> None:
        """Let workers and learner finish what they are at."""
        self._workers.stop()
        self._learners.stop()
        self._nodes.stop()
        self._workers.last_lines()
        self._workers.kill()
