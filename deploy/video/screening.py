"""Plays several tasks side by side for a film, each lane one task at a time, step for step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from actors.policy import Decision, Policy
from actors.stacking import RollingStack
from deploy import build
from deploy.evaluation_lanes import (
    evaluation_environment,
    evaluation_lane,
    specs_like_training,
)
from deploy.players import PolicyName, player
from deploy.saved_agent import SavedAgent
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.ports import Lanes
from repertory.seeding import stream
from repertory.types import EpisodeRecord, StepResult


@dataclass(frozen=True, slots=True)
class Moment:
    """One task at one step: the picture and what stands beside it."""

    task: str
    episode: int
    """From 0 within the film."""
    step: int
    """Agent steps since the episode began."""
    picture: np.ndarray
    """uint8 [height, width, 3]."""
    return_so_far: float
    value: float | None
    """What the agent expects from here on; None where nothing says so."""
    guide: str | None
    """Whose policy acts; None in runs whose tasks do not guide each other."""
    success: bool | None
    """Whether the episode has succeeded by now; None where tasks have no notion of it."""
    over: bool
    """Whether the episode has ended."""


@dataclass(slots=True)
class _Stage:
    """One task's place in the film."""

    position: int
    """Of its task in the list that is filmed."""
    lanes: Lanes
    stack: RollingStack
    recurrent: np.ndarray
    started: bool = True
    episode: int = 0
    step: int = 0
    return_so_far: float = 0.0
    value: float | None = None
    guide: str | None = None
    success: bool | None = None
    held: int = 0
    """Pictures for which the end of the episode was shown."""
    last: Moment | None = None
    records: list[EpisodeRecord] = field(default_factory=list)


class Screening:
    """The episodes of a film; after `moments` has ended, `records` holds what came of them.

    Every task plays `episodes` episodes in turn, beginning with the seed's `first_episode`. One
    that ends is held for `hold` pictures, and the last one of a task until all tasks are done.
    """

    def __init__(
        self,
        config: RunConfig,
        agent: SavedAgent | None,
        task_names: Sequence[str],
        *,
        policy_name: PolicyName,
        seed: int,
        max_steps: int,
        first_episode: int = 0,
        episodes: int = 1,
        hold: int = 0,
        valued: bool = True,
    ) -> None:
        """Build the policy and every task's first lane; `random` needs no agent.

        Raises:
            BadInput: tasks do not fit the network, have no picture, or cannot be guided.
        """
        known = build.tasks_of(config)
        self._known = len(known)
        environment = evaluation_environment(config)
        self.tasks = specs_like_training(environment, task_names, known)
        weights = None if agent is None else agent.weights
        self._policy: Policy = player(
            config, known, weights, policy_name, stream(seed, "film", "policy")
        )
        unseen = [task.name for task in self.tasks if task.index >= len(known)]
        if policy_name == "guided" and unseen:
            raise BadInput(f"the guide knows only the run's own tasks, not {', '.join(unseen)}")
        self._values = None
        if valued and agent is not None and policy_name != "random":
            from deploy.video.values import values_of

            self._values = values_of(config, known, agent)
        guide = build.guide_of(config)
        own_names = [task.name for task in known]
        self._candidates = () if guide is None else tuple(guide.candidate_names(own_names))
        self._make_lane = evaluation_lane(config, self.tasks, seed)
        self._index = np.array([task.index for task in self.tasks], np.int32)
        self._max_steps, self._first, self._episodes = max_steps, first_episode, episodes
        self._hold = hold
        self.records: list[list[EpisodeRecord]] = []
        self._stages: list[_Stage] = []

    def moments(self, every: int = 1) -> Iterator[list[Moment]]:
        """Play to the end, yielding all tasks' moments at every `every`-th step and at the last."""
        try:
            for position in range(len(self.tasks)):
                self._stages.append(self._raise_curtain(position))
            self.records = [stage.records for stage in self._stages]
            tick = 0
            while not all(self._done(stage) for stage in self._stages):
                decision = self._decide()
                shown = tick % every == 0
                if shown:
                    yield [self._moment(stage) for stage in self._stages]
                self._advance(decision, shown)
                tick += 1
            yield [self._moment(stage) for stage in self._stages]
            for _ in range(self._hold):
                yield [self._moment(stage) for stage in self._stages]
        finally:
            for stage in self._stages:
                stage.lanes.close()

    def _raise_curtain(self, position: int) -> _Stage:
        task = self.tasks[position]
        lanes = self._make_lane(position, self._first)
        if not hasattr(lanes, "rgb"):
            lanes.close()
            raise BadInput(f"task {task.name} has no picture to film")
        stack = RollingStack(task.observation, 1)
        recurrent = np.zeros((1, self._policy.recurrent_size), np.float32)
        stage = _Stage(position, lanes, stack, recurrent)
        self._begin(stage)
        return stage

    def _begin(self, stage: _Stage) -> None:
        stage.stack.push(stage.lanes.reset(), np.ones(1, np.bool_))
        stage.started, stage.step, stage.return_so_far = True, 0, 0.0
        stage.held, stage.last = 0, None
        stage.success = self._succeeded(stage)

    def _over(self, stage: _Stage) -> bool:
        return len(stage.records) > stage.episode

    def _done(self, stage: _Stage) -> bool:
        return len(stage.records) == self._episodes

    def _decide(self) -> Decision:
        """Ask the policy for every stage, those that are over included: a policy's lanes stay."""
        stacked = np.concatenate([stage.stack.network_input for stage in self._stages])
        recurrent = np.concatenate([stage.recurrent for stage in self._stages])
        started = np.array([stage.started for stage in self._stages])
        decision = self._policy.act(stacked, self._index, recurrent, started)
        values = None
        if self._values is not None:
            values = self._values.of(stacked, self._index, recurrent, started)
        for row, stage in enumerate(self._stages):
            if self._over(stage):
                continue
            stage.value = None if values is None else float(values[row])
            stage.guide = self._acting(row, decision)
        return decision

    def _acting(self, row: int, decision: Decision) -> str | None:
        """Return whose policy acts; an unseen task's own has no name among the candidates."""
        if not self._candidates:
            return None
        if decision.guide is not None:
            return self._candidates[int(decision.guide[row])]
        own = int(self._index[row])
        return self._candidates[own] if own < self._known else None

    def _advance(self, decision: Decision, shown: bool) -> None:
        results: list[StepResult | None] = []
        for row, stage in enumerate(self._stages):
            results.append(None)
            if self._over(stage):
                stage.held += shown
                if not self._done(stage) and stage.held > self._hold:
                    self._next_episode(stage)
                continue
            results[row] = self._step(stage, decision, row)
        self._policy.observe(_together(results, len(self._stages)))

    def _next_episode(self, stage: _Stage) -> None:
        stage.lanes.close()
        stage.episode += 1
        stage.lanes = self._make_lane(stage.position, self._first + stage.episode)
        self._begin(stage)

    def _step(self, stage: _Stage, decision: Decision, row: int) -> StepResult:
        result = stage.lanes.step(decision.action[row : row + 1])
        stage.recurrent = decision.recurrent[row : row + 1]
        stage.started = bool(result.started[0])
        stage.stack.push(result.observation, result.started)
        stage.step += 1
        stage.return_so_far += float(result.reward[0])
        stage.success = self._succeeded(stage)
        if result.episodes:
            record = result.episodes[0]
            stage.success = record.success
            stage.records.append(record)
        elif stage.step >= self._max_steps:
            record = EpisodeRecord(
                stage.position,
                stage.return_so_far,
                stage.step,
                success=stage.success,
                truncated=True,
            )
            stage.records.append(record)
        return result

    def _succeeded(self, stage: _Stage) -> bool | None:
        succeeded = getattr(stage.lanes, "succeeded", None)
        return None if succeeded is None else bool(succeeded(0))

    def _moment(self, stage: _Stage) -> Moment:
        if stage.last is not None:
            return stage.last
        picture = getattr(stage.lanes, "rgb")(0)  # noqa: B009 (no part of the port)
        over = self._over(stage)
        moment = Moment(
            task=self.tasks[stage.position].name,
            episode=stage.episode,
            step=stage.step,
            picture=np.array(picture),
            return_so_far=stage.return_so_far,
            value=stage.value,
            guide=stage.guide,
            success=stage.success,
            over=over,
        )
        if over:
            stage.last = moment
        return moment


def _together(results: Sequence[StepResult | None], lanes: int) -> StepResult:
    """Return the stages' results as one; a stage without one shows an invalid step."""
    played = [result for result in results if result is not None]
    first = played[0] if played else None
    shape = () if first is None else first.observation.shape[1:]
    kind = np.float32 if first is None else first.observation.dtype
    joined = StepResult(
        observation=np.zeros((lanes, *shape), kind),
        reward=np.zeros(lanes, np.float32),
        terminated=np.zeros(lanes, np.bool_),
        truncated=np.zeros(lanes, np.bool_),
        valid=np.zeros(lanes, np.bool_),
        started=np.zeros(lanes, np.bool_),
        episodes=tuple(record for result in played for record in result.episodes),
    )
    names = ("observation", "reward", "terminated", "truncated", "valid", "started")
    for lane, result in enumerate(results):
        if result is not None:
            for name in names:
                getattr(joined, name)[lane] = getattr(result, name)[0]
    return joined
