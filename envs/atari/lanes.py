"""Many emulators as one: any variants of any games, stepped together in one process."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from envs.atari import catalog
from envs.atari.lane import AtariLane
from envs.failures import LaneFailures
from envs.same_tasks import check_same_tasks
from repertory import seeding
from repertory.config import AtariConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import State
from repertory.types import EpisodeRecord, StepResult, TaskSpec


class AtariLanes:
    """The lanes of one worker (`repertory.ports.Lanes`).

    An observation is the newest frame only, uint8 [size, size]; whoever needs stacks builds them.
    With `life_loss_ends`, a step that loses a life is `terminated` for the learner and nothing
    else happens: the next step is an ordinary one, valid and of the same game.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        assignment: Sequence[int],
        settings: AtariConfig,
        *,
        seed: int,
        path: tuple[str | int, ...],
    ) -> None:
        """Load one game per lane.

        Args:
            tasks: the run's tasks.
            assignment: which of `tasks` each lane plays.
            settings: the protocol.
            seed: the run's seed.
            path: name of this worker's random streams; each lane's are below it.

        Raises:
            BadInput: a lane's game does not have the run's actions.
            EnvironmentFailure: a game cannot be loaded.
        """
        # The worker is one process among many that share the cores.
        cv2.setNumThreads(1)
        count = len(assignment)
        self.task = np.array([tasks[index].index for index in assignment], dtype=np.int32)
        self._names = [tasks[index].name for index in assignment]
        self._clip = settings.clip_rewards
        self._life_loss_ends = settings.life_loss_ends
        self._actions = 0
        self.failures = LaneFailures(self._names)
        self._settings = settings
        self._seed, self._path = seed, path
        self._specs = [tasks[index] for index in assignment]
        self._renewals = [0] * count
        self._lanes = [self._made(lane, "lane", lane) for lane in range(count)]
        size = settings.frame_size
        self._observation = np.zeros((count, size, size), dtype=np.uint8)
        self._reward = np.zeros(count, dtype=np.float32)
        self._terminated = np.zeros(count, dtype=np.bool_)
        self._truncated = np.zeros(count, dtype=np.bool_)
        self._valid = np.ones(count, dtype=np.bool_)
        self._started = np.zeros(count, dtype=np.bool_)
        self._over = [True] * count
        self._return = [0.0] * count
        self._length = [0] * count
        self._lives_lost = [0] * count

    def _made(self, lane: int, *stream: str | int) -> AtariLane:
        spec = self._specs[lane]
        task = catalog.parse(spec.name)
        actions = _actions(task.game, spec.action.size)
        self._actions = len(actions)
        return AtariLane(
            task,
            self._settings,
            actions,
            sticky_seed=seeding.integer(self._seed, *self._path, *stream, "sticky"),
            noops=seeding.stream(self._seed, *self._path, *stream, "noops"),
        )

    def renew(self, lane: int) -> np.ndarray:
        """Load a lane's game anew, start it, and return its first observation."""
        self._renewals[lane] += 1
        self._lanes[lane] = self._made(lane, "lane", lane, "renewal", self._renewals[lane])
        self._start(lane)
        first: np.ndarray = self._observation[lane]
        return first

    def reset(self) -> np.ndarray:
        """Start every lane and return the first observations, uint8 [L, size, size]."""
        for lane in range(len(self._lanes)):
            try:
                self._start(lane)
            except Exception as error:
                self.failures.note(lane, error)
        return self._observation

    def step(self, action: np.ndarray) -> StepResult:
        """Step every lane; see StepResult for the order of resets.

        Raises:
            EnvironmentFailure: an action is out of range or an emulator raised.
        """
        chosen = self._checked(action)
        episodes: list[EpisodeRecord] = []
        for lane, index in enumerate(chosen):
            if lane in self.failures.out:
                continue
            try:
                if self._over[lane]:
                    self._start(lane)
                    self._reward[lane] = 0.0
                    self._terminated[lane] = self._truncated[lane] = self._valid[lane] = False
                    self._started[lane] = True
                else:
                    self._play(lane, index, episodes)
            except Exception as error:
                self.failures.note(lane, error)
        return StepResult(
            observation=self._observation,
            reward=self._reward,
            terminated=self._terminated,
            truncated=self._truncated,
            valid=self._valid,
            started=self._started,
            episodes=tuple(episodes),
        )

    def rgb(self, lane: int) -> np.ndarray:
        """Return a lane's newest emulated frame in colour, uint8 [210, 160, 3] in most games."""
        return self._lanes[lane].rgb()

    def state(self) -> State:
        """Return everything needed to go on bit for bit, emulators and random streams included."""
        return {
            "names": list(self._names),
            "lanes": [lane.state() for lane in self._lanes],
            "observation": self._observation.copy(),
            "over": np.array(self._over, dtype=np.bool_),
            "return": np.array(self._return, dtype=np.float64),
            "length": np.array(self._length, dtype=np.int64),
            "lives_lost": np.array(self._lives_lost, dtype=np.int64),
        }

    def restore(self, state: State) -> None:
        """Take up a state from `state()` of lanes with the same tasks and settings.

        Raises:
            BadInput: the state is of other tasks.
            EnvironmentFailure: a lane's state is damaged.
        """
        check_same_tasks(state["names"], self._names)
        for index, (lane, saved) in enumerate(zip(self._lanes, state["lanes"], strict=True)):
            try:
                lane.restore(saved)
            except Exception as error:
                raise self.failures.of(index, error) from error
        self._observation[:] = state["observation"]
        self._over = np.asarray(state["over"]).tolist()
        self._return = np.asarray(state["return"]).tolist()
        self._length = np.asarray(state["length"]).tolist()
        self._lives_lost = np.asarray(state["lives_lost"]).tolist()

    def close(self) -> None:
        """Free the emulators."""
        self._lanes.clear()

    def _start(self, lane: int) -> None:
        self._lanes[lane].reset(self._observation[lane])
        self._over[lane] = False
        self._return[lane] = 0.0
        self._length[lane] = self._lives_lost[lane] = 0

    def _play(self, lane: int, index: int, episodes: list[EpisodeRecord]) -> None:
        reward, game_over, truncated, lost = self._lanes[lane].step(index, self._observation[lane])
        life_ends = self._life_loss_ends and lost > 0
        shown = (reward > 0) - (reward < 0) if self._clip else reward
        self._reward[lane] = shown
        self._terminated[lane] = game_over or life_ends
        # Where the return ends there is nothing to bootstrap.
        self._truncated[lane] = truncated and not life_ends
        self._valid[lane] = True
        self._started[lane] = False
        self._return[lane] += reward
        self._length[lane] += 1
        self._lives_lost[lane] += lost
        if game_over or truncated:
            self._over[lane] = True
            episodes.append(
                EpisodeRecord(
                    task=int(self.task[lane]),
                    raw_return=self._return[lane],
                    length=self._length[lane],
                    lives_lost=self._lives_lost[lane],
                    truncated=truncated,
                )
            )

    def _checked(self, action: np.ndarray) -> list[int]:
        if action.shape != self.task.shape or action.dtype.kind not in "iu":
            raise EnvironmentFailure(
                f"need one integer action for each of {len(self.task)} lanes, "
                f"got {action.dtype} of shape {action.shape}."
            )
        chosen: list[int] = action.tolist()
        if chosen and not (min(chosen) >= 0 and max(chosen) < self._actions):
            lane = next(i for i, index in enumerate(chosen) if not 0 <= index < self._actions)
            raise EnvironmentFailure(
                f"{self._names[lane]} (lane {lane}): action {chosen[lane]} is not one of "
                f"0 to {self._actions - 1}."
            )
        return chosen


def _actions(game: str, size: int) -> tuple[int, ...]:
    if size == len(catalog.FULL_ACTIONS):
        return catalog.FULL_ACTIONS
    minimal = catalog.minimal_actions(game)
    if size != len(minimal):
        raise BadInput(
            f"{game} can be played with its {len(minimal)} actions or all "
            f"{len(catalog.FULL_ACTIONS)}, not with {size}."
        )
    return minimal
