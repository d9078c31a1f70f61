"""One emulator with DeepMind's preprocessing: frame skip, maximum of two frames, grey, area resize.

The numbers are those of gymnasium's AtariPreprocessing, to the byte. Two things differ in purpose:
a lost life never stops a game, and the state can be saved and resumed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import ale_py
import numpy as np

from envs.atari import catalog
from envs.atari.noise import StickyActions
from envs.atari.resize import AreaResize
from repertory.config import AtariConfig
from repertory.ports import State
from repertory.seeding import generator_words, set_generator_words

_NOOP = ale_py.Action.NOOP
_FIRE = ale_py.Action.FIRE

# A reset of the emulator takes the time of 15 to 40 agent steps. In these games it was compared
# hundreds of times, in every variant and after all kinds of play, and always led to the same state,
# so that restoring that state does the same. In other games (Adventure, Assault, Hero, Tennis) what
# was played before can show through.
REPEATABLE_RESETS = frozenset({"asteroids", "bank_heist", "breakout", "pong", "space_invaders"})


class _Start(NamedTuple):
    """The state after a reset, with the picture that the emulator does not restore."""

    state: Any
    screen: np.ndarray
    rgb: np.ndarray


class LaneStep(NamedTuple):
    """What one agent step did to the game."""

    reward: float
    """Sum over its frames, as the game counts."""
    game_over: bool
    truncated: bool
    lives_lost: int


class AtariLane:
    """One game of one variant, stepped and reset by the caller."""

    def __init__(
        self,
        task: catalog.AtariTask,
        settings: AtariConfig,
        actions: Sequence[int],
        *,
        sticky_seed: int,
        noops: np.random.Generator,
    ) -> None:
        """Load the game.

        Args:
            task: game and variant.
            settings: the protocol.
            actions: the emulator's number of each action index.
            sticky_seed: seed of the sticky actions, in [0, 2**32).
            noops: where the number of no-ops at each reset is drawn from.
        """
        self._emulator: Any = catalog.new_emulator()
        # Unseeded, the emulator takes the clock; nothing here draws from it, but nothing may.
        self._emulator.setInt("random_seed", sticky_seed & 0x7FFFFFFF)
        self._emulator.setFloat("repeat_action_probability", 0.0)
        self._emulator.setInt("max_num_frames_per_episode", settings.max_frames)
        catalog.load_game(self._emulator, task.game)
        self._emulator.setMode(task.mode)
        self._emulator.setDifficulty(task.difficulty)

        self._sticky = StickyActions(settings.repeat_action_probability, sticky_seed)
        self._noops = noops
        self._noop_max = settings.noop_max
        self._skip = settings.frame_skip
        self._repeatable = task.game in REPEATABLE_RESETS
        self._start: _Start | None = None
        self._actions = [ale_py.Action(action) for action in actions]
        self._fire = settings.fire_reset and _FIRE.value in catalog.minimal_actions(task.game)
        self._held = _NOOP
        self._lives = 0
        shape = self._emulator.getScreenDims()
        # As in gymnasium's wrapper: an episode that ends between two agent steps leaves the frames
        # of the step before in here, and they make the last observation.
        self._screen = np.zeros(shape, dtype=np.uint8)
        self._earlier_screen = np.zeros(shape, dtype=np.uint8)
        self._resize = AreaResize(shape, settings.frame_size)
        # What the emulator would show, between restoring a state and the next frame.
        self._restored_screen: np.ndarray | None = None
        self._restored_rgb: np.ndarray | None = None

    def reset(self, observation: np.ndarray) -> None:
        """Start the next episode and write its first observation, [size, size]."""
        emulator = self._emulator
        self._reset_game()
        noops = int(self._noops.integers(1, self._noop_max + 1)) if self._noop_max else 0
        for _ in range(noops):
            self._act(_NOOP)
            if emulator.game_over():
                self._reset_game()
        if self._fire:
            for _ in range(self._skip):
                self._act(_FIRE)
            if emulator.game_over():
                self._reset_game()
        self._lives = emulator.lives()
        self._look()
        self._observe(observation)

    def step(self, action: int, observation: np.ndarray) -> LaneStep:
        """Play one agent step and write the observation after it, [size, size]."""
        wanted = self._actions[action]
        held = self._held
        skip = self._skip
        emulator = self._emulator
        act, game_over = emulator.act, emulator.game_over
        repeats = self._sticky.ensure(skip).pop
        self._restored_screen = self._restored_rgb = None
        reward = 0
        over = False
        for left in range(skip - 1, -1, -1):
            if not repeats():
                held = wanted
            reward += act(held)
            if game_over():
                over = True
                break
            if left == 0:
                emulator.getScreenGrayscale(self._screen)
            elif left == 1:
                emulator.getScreenGrayscale(self._earlier_screen)
        self._held = held
        lives = emulator.lives()
        lost = max(self._lives - lives, 0)
        self._lives = lives
        if lost and self._fire and not over:
            # The game waits for it again; the policy need not learn what the reset does for it.
            for _ in range(skip):
                reward += self._act(_FIRE)
            over = emulator.game_over()
            self._look()
        self._observe(observation)
        if not over:
            return LaneStep(float(reward), False, False, lost)
        ended = emulator.game_over(with_truncation=False)
        return LaneStep(float(reward), ended, not ended, lost)

    def _look(self) -> None:
        """Take the newest frame alone for the next observation."""
        if self._restored_screen is None:
            self._emulator.getScreenGrayscale(self._screen)
        else:
            self._screen[:] = self._restored_screen
        self._earlier_screen.fill(0)

    def rgb(self) -> np.ndarray:
        """Return the newest emulated frame in colour, [210, 160, 3] in most games."""
        if self._restored_rgb is not None:
            return self._restored_rgb
        return np.asarray(self._emulator.getScreenRGB())

    def state(self) -> State:
        """Return everything needed to go on bit for bit."""
        emulator = self._emulator.cloneState(include_rng=True).serialize()
        return {
            "emulator": np.frombuffer(emulator, dtype=np.uint8).copy(),
            "screen": _packed(self._screen),
            "earlier_screen": _packed(self._earlier_screen),
            # The emulator's state is without its picture.
            "rgb": _packed(self.rgb()),
            "sticky": self._sticky.state(),
            "noops": generator_words(self._noops),
            "held": self._held.value,
            "lives": self._lives,
        }

    def restore(self, state: State) -> None:
        """Take up a state of the same task under the same settings."""
        emulator = np.asarray(state["emulator"], dtype=np.uint8).tobytes()
        self._emulator.restoreState(ale_py.ALEState(emulator))
        self._screen[:] = _unpacked(state["screen"], self._screen.shape)
        self._earlier_screen[:] = _unpacked(state["earlier_screen"], self._screen.shape)
        self._restored_rgb = _unpacked(state["rgb"], (*self._screen.shape, 3))
        self._sticky.restore(state["sticky"])
        set_generator_words(self._noops, np.asarray(state["noops"]))
        self._held = ale_py.Action(int(state["held"]))
        self._lives = int(state["lives"])

    def _reset_game(self) -> None:
        emulator = self._emulator
        self._held = _NOOP
        if self._start is not None:
            emulator.restoreState(self._start.state)
            self._restored_screen, self._restored_rgb = self._start.screen, self._start.rgb
            return
        emulator.reset_game()
        self._restored_screen = self._restored_rgb = None
        if self._repeatable:
            self._start = _Start(
                emulator.cloneState(), emulator.getScreenGrayscale(), emulator.getScreenRGB()
            )

    def _act(self, action: Any) -> int:
        """Play one frame and return its reward."""
        if not self._sticky.ensure(1).pop():
            self._held = action
        self._restored_screen = self._restored_rgb = None
        return int(self._emulator.act(self._held))

    def _observe(self, observation: np.ndarray) -> None:
        screen = self._screen
        if self._skip > 1:
            np.maximum(screen, self._earlier_screen, out=screen)
        self._resize(screen, observation)


def _packed(pixels: np.ndarray) -> np.ndarray:
    return np.frombuffer(zlib.compress(pixels.tobytes(), 1), dtype=np.uint8).copy()


def _unpacked(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    pixels = zlib.decompress(np.asarray(packed, dtype=np.uint8).tobytes())
    return np.frombuffer(pixels, dtype=np.uint8).reshape(shape).copy()
