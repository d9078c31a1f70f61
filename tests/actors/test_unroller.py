"""The unroller loses, doubles and mixes nothing: the counting environment tells on every step."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from actors.policy import RandomPolicy
from actors.stacking import RollingStack
from actors.unroller import Unroller
from envs.registry import make_lanes, task_specs
from repertory.config import CountingConfig
from repertory.errors import EnvironmentFailure
from repertory.seeding import stream
from repertory.types import ObservationSpec, StepResult, Unroll

NAMES = ("counting/0", "counting/1", "counting/2")


def unroller(
    length: int, assignment: list[list[int]], settings: CountingConfig | None = None
) -> Unroller:
    settings = settings or CountingConfig()
    specs = task_specs(NAMES, settings, 0.99)
    groups = [
        (
            make_lanes(settings, specs, part, seed=1, path=("test", index)),
            RandomPolicy(specs[0].action, stream(1, "policy", index)),
        )
        for index, part in enumerate(assignment)
    ]
    return Unroller(groups, specs, length=length, worker=3, incarnation=2)


def joined(unrolls: list[Unroll], name: str) -> np.ndarray:
    return np.concatenate([getattr(u, name) for u in unrolls])


@pytest.mark.parametrize("groups", [[[0, 1, 2, 0]], [[0, 1], [2, 0]]])
def test_every_step_of_every_lane_arrives_once_and_in_order(groups: list[list[int]]) -> None:
    subject = unroller(5, groups)
    unrolls = [subject.unroll() for _ in range(30)]
    subject.close()
    lanes = [task for part in groups for task in part]
    for lane, task in enumerate(lanes):
        episode, step, over = 0, 0, False
        for unroll in unrolls:
            for t in range(unroll.length):
                assert unroll.observation[t, lane].tolist() == [task, episode, step]
                assert unroll.age[t, lane] == step
                assert unroll.valid[t, lane] == (not over)
                if over:
                    assert unroll.reward[t, lane] == 0
                    assert not unroll.terminated[t, lane]
                    episode, step, over = episode + 1, 0, False
                    continue
                assert unroll.reward[t, lane] == step
                step += 1
                over = step == 7 + task
                cut = over and (episode + 1) % 3 == 0
                assert unroll.truncated[t, lane] == cut
                assert unroll.terminated[t, lane] == (over and not cut)
            # The bootstrap observation is where the next unroll begins.
            assert unroll.observation[-1, lane].tolist() == [task, episode, step]
    assert [u.sequence for u in unrolls] == list(range(1, 31))
    assert all(u.worker == 3 and u.incarnation == 2 for u in unrolls)


def test_episodes_are_reported_once_with_their_task() -> None:
    subject = unroller(6, [[0, 1, 2]])
    records = [e for _ in range(20) for e in subject.unroll().episodes]
    for task in range(3):
        own = [e for e in records if e.task == task]
        assert len(own) == (20 * 6 + 1) // (8 + task)
        assert all(e.length == 7 + task for e in own)
        assert [e.truncated for e in own] == [(i + 1) % 3 == 0 for i in range(len(own))]


def test_the_policy_version_that_acted_is_on_every_lane() -> None:
    subject = unroller(4, [[0, 1]])
    assert subject.unroll().policy_version.tolist() == [0, 0]


def test_a_restored_unroller_plays_the_same_unrolls() -> None:
    subject = unroller(5, [[0, 1], [2]])
    subject.unroll()
    state = subject.state()
    twin = unroller(5, [[0, 1], [2]])
    twin.restore(state)
    for _ in range(5):
        mine, other = subject.unroll(), twin.unroll()
        np.testing.assert_array_equal(mine.observation, other.observation)
        np.testing.assert_array_equal(mine.age, other.age)
        np.testing.assert_array_equal(mine.valid, other.valid)
        assert mine.sequence == other.sequence


def test_a_failing_environment_names_its_task() -> None:
    settings = CountingConfig(fail_task="counting/1", fail_step=7)
    subject = unroller(5, [[0, 1]], settings)
    subject.unroll()
    with pytest.raises(EnvironmentFailure, match="counting/1"):
        subject.unroll()


class _NanAtStep:
    """Lanes whose second lane answers NaN: an environment of somebody else, not one of ours."""

    def __init__(self) -> None:
        self.task = np.array([0, 2], np.int32)

    def reset(self) -> np.ndarray:
        return np.zeros((2, 3), np.float32)

    def step(self, action: np.ndarray) -> StepResult:
        none = np.zeros(action.shape, np.bool_)
        return StepResult(
            observation=np.zeros((2, 3), np.float32),
            reward=np.array([0.0, np.nan], np.float32),
            terminated=none,
            truncated=none,
            valid=~none,
            started=none,
        )

    def state(self) -> dict[str, object]:
        return {}

    def restore(self, state: dict[str, object]) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_reward_that_is_not_finite_is_refused_with_the_name_of_its_task() -> None:
    specs = task_specs(NAMES, CountingConfig(), 0.99)
    policy = RandomPolicy(specs[0].action, stream(1, "policy"))
    subject = Unroller([(_NanAtStep(), policy)], specs, length=2, worker=0, incarnation=0)
    with pytest.raises(EnvironmentFailure, match=r"counting/2.*lane 1.*nan"):
        subject.unroll()


@pytest.mark.parametrize(("depth", "dtype"), [(4, "uint8"), (3, "uint8"), (4, "float32")])
def test_the_rolling_stack_equals_a_queue_that_begins_anew_with_each_episode(
    depth: int, dtype: str
) -> None:
    generator = np.random.default_rng(depth)
    spec = ObservationSpec((5, 6), dtype, stack=depth)
    subject = RollingStack(spec, 3)
    queues = [deque(maxlen=depth) for _ in range(3)]
    for step in range(60):
        observation = generator.integers(0, 256, size=(3, 5, 6)).astype(dtype)
        started = generator.random(3) < 0.2 if step else np.ones(3, np.bool_)
        subject.push(observation, started)
        for lane, queue in enumerate(queues):
            if started[lane]:
                queue.extend([observation[lane]] * depth)
            else:
                queue.append(observation[lane])
            expected = np.stack(list(queue), axis=-1)
            np.testing.assert_array_equal(subject.network_input[lane], expected)
