"""The learners of a run, asked as if they were one; usually it is one."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import ray

from deploy import build
from deploy.cluster.faults import (
    ANSWER_S,
    START_S,
    STATE_S,
    PartLost,
    PartnerLost,
    cause_of,
    in_a_line,
    last_line,
)
from deploy.cluster.joined import (
    joined_experience,
    joined_heartbeat,
    joined_report,
    without_contents,
)
from deploy.cluster.learner_host import LearnerHost
from deploy.cluster.learner_places import LearnerPlaces, gpus_of_each, warn_of_missing_gpus
from deploy.cluster.messages import Heartbeat, Report
from deploy.cluster.remote_classes import remote_class
from deploy.cluster.replay_host import ReplayHost, ReplayLost
from deploy.cluster.versions import VersionCheck
from deploy.cluster.worker_door import Published
from deploy.experts import expert_arrays
from deploy.finetuning.parent import initial_weights
from deploy.video.films import films_draw_critics
from repertory.config import RunConfig
from repertory.errors import ClusterFailure
from repertory.ports import State

log = logging.getLogger(__name__)

CHECKPOINT_S = STATE_S + ANSWER_S
"""A learner may wait so long for its replay's contents: what is slow must not count as lost."""
CAUSE_S = 1.0
"""After one learner lost another, so long for the cause to come to light."""


class Learners:
    """Every question goes to all learners at once and has a deadline.

    `cure` is what a user can do when one is lost, for the sentence that ends the run. Each takes
    `gpus`, by default what the cluster can give.
    """

    def __init__(self, config: RunConfig, cure: str, gpus: int | None = None) -> None:
        self._config = config
        self._cure = cure
        self._gpus = gpus_of_each(config) if gpus is None else gpus
        self._hosts: list[Any] = []
        self._replays: list[Any] = []
        self._places: LearnerPlaces | None = None
        self._report: list[Any] | None = None

    # -- start -----------------------------------------------------------------------------------

    def create(self, state: State | None) -> None:
        """Ask Ray for the learners' processes, and for those of their replays."""
        text = self._config.model_dump_json()
        count = self._config.learner.count
        apart = self._config.replay.place == "process" and build.is_off_policy(self._config)
        # The driver has the directories of experts and of the run that is fine-tuned; a resumed run
        # has their weights in its own.
        experts = expert_arrays(self._config) if state is None else []
        initial = initial_weights(self._config) if state is None else None
        gpus = self._gpus
        warn_of_missing_gpus(self._config, gpus)
        learner, beside = remote_class(LearnerHost), remote_class(ReplayHost)
        if self._config.address:
            self._places = LearnerPlaces(gpus, apart=apart)
        for rank in range(count):
            here, there = self._places.next() if self._places else ({}, {})
            replay = None
            if apart:
                replay = beside.options(num_cpus=1, max_restarts=0, **there).remote(text, rank)
                self._replays.append(replay)
            host = learner.options(num_cpus=1, num_gpus=gpus, max_restarts=0, **here)
            self._hosts.append(host.remote(text, replay, experts, initial, rank))

    def door_for(self, worker: int) -> Any:
        """Return whom a worker delivers to."""
        doors = self._replays or self._hosts
        return doors[worker % len(doors)]

    def begin(self, state: State | None) -> None:
        """Let all of them take up what was saved, if anything was, and learn.

        Raises:
            ClusterFailure: one of them has another version of our messages.
        """
        asked = [host.versions.remote() for host in self._hosts]
        check = VersionCheck()
        for node, versions in self._ask(asked, START_S, "to start"):
            check.hear("the learner", node, versions)
        place = None
        if len(self._hosts) > 1:
            # All must be there before the first of them waits for the others.
            places = [host.meeting_place.remote() for host in self._hosts[:1]]
            places += [host.heartbeat.remote() for host in self._hosts[1:]]
            place = self._ask(places, START_S, "to start")[0]
        states = _states_for(state, len(self._hosts))
        started = [
            host.start.remote(own, place) for host, own in zip(self._hosts, states, strict=True)
        ]
        self._ask(started, START_S + STATE_S, "to start")

    @property
    def first(self) -> Any:
        """The handle of the first one."""
        return self._hosts[0]

    # -- questions -------------------------------------------------------------------------------

    def _ask(self, references: Sequence[Any], deadline_s: float, what: str) -> list[Any]:
        try:
            found: list[Any] = ray.get(list(references), timeout=deadline_s)
            return found
        except ray.exceptions.GetTimeoutError as error:
            raise PartLost(
                f"the learner did not answer within {deadline_s:.0f} s when asked {what}; "
                f"{self._cure}"
            ) from error
        except ray.exceptions.RayTaskError as error:
            raise self._with_cure(cause_of(error)) from error
        except ray.exceptions.RayError as error:
            # Not of actors' errors alone: one killed for want of memory is told of by another kind.
            if getattr(error, "actor_init_failed", False):
                raise ClusterFailure(f"the learner cannot be built: {last_line(error)}") from error
            raise PartLost(
                f"the learner died when asked {what} ({in_a_line(error)}); {self._cure}"
            ) from error

    def _with_cure(self, failure: BaseException) -> BaseException:
        lost = isinstance(failure, ReplayLost | PartnerLost)
        return PartLost(f"{failure}; {self._cure}") if lost else failure

    def heartbeat(self) -> Heartbeat:
        """Hear all of them, and raise what ended their updates."""
        beat = self._beat()
        if isinstance(beat.failure, PartnerLost):
            time.sleep(CAUSE_S)
            beat = self._beat()
        if beat.failure is not None:
            raise self._with_cure(beat.failure)
        return beat

    def _beat(self) -> Heartbeat:
        asked = [host.heartbeat.remote() for host in self._hosts]
        beats: list[Heartbeat] = self._ask(asked, ANSWER_S, "for a sign of life")
        # Whoever lost another learner says less than that one.
        beats.sort(key=lambda beat: isinstance(beat.failure, PartnerLost))
        return joined_heartbeat(beats)

    def ask_report(self) -> None:
        """Ask for metrics, unless they are awaited already."""
        if self._report is None:
            self._report = [host.report.remote() for host in self._hosts]

    def take_report(self, wait_s: float) -> Report | None:
        """Return the report that was asked for, if it comes within `wait_s`."""
        if self._report is None:
            return None
        ready, _ = ray.wait(self._report, num_returns=len(self._report), timeout=wait_s)
        if len(ready) < len(self._report):
            return None
        asked, self._report = self._report, None
        return joined_report(self._ask(asked, ANSWER_S, "for its metrics"))

    def state(self) -> State:
        """Return the state of all for a checkpoint: what they have in common from the first one.

        With several learners `experience` is what they counted together, which any number of them
        can go on from, and `shares` what each of them has.
        """
        asked = [self.first.state.remote()]
        asked += [host.share.remote() for host in self._hosts[1:]]
        state, *others = self._ask(asked, CHECKPOINT_S, "for its state")
        whole: State = state
        if others:
            shares = [whole["experience"], *(other["experience"] for other in others)]
            whole["shares"] = shares
            whole["experience"] = joined_experience(shares)
            for other in others:
                whole["counters"]["env_steps"] += other["counters"]["env_steps"]
        return whole

    def newest(self) -> Published:
        """Return the newest published weights."""
        asked = [self.first.acting_weights.remote()]
        (found,) = self._ask(asked, ANSWER_S, "for its weights")
        published: Published = found
        return published

    def critic_for_films(self) -> list[Any]:
        """Ask for the critic that films draw values by; return the reference, if any is wanted."""
        return [self.first.critic.remote()] if films_draw_critics(self._config) else []

    # -- end -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let all finish what they are at."""
        self._ask([host.stop.remote() for host in self._hosts], CHECKPOINT_S, "to stop")

    def kill(self) -> None:
        """End whatever still lives of them."""
        for host in (*self._hosts, *self._replays):
            ray.kill(host, no_restart=True)
        if self._places:
            self._places.give_back()


def _states_for(state: State | None, learners: int) -> list[State | None]:
    """Return what each learner takes up of a checkpoint, whatever number of them wrote it."""
    if state is None:
        return [None] * learners
    shares: list[State | None] = list(state.get("shares", [state["experience"]]))
    if len(shares) != learners:
        log.warning(
            "the checkpoint is of %d learner(s), and there are %d now: counters go on, and what "
            "lay in queues or replay is dropped",
            len(shares),
            learners,
        )
        shares = [without_contents(state["experience"]), *([None] * (learners - 1))]
    slim = {key: state[key] for key in ("learner", "counters")}
    return [slim | {"experience": share} for share in shares]
