"""Off-policy runs in the local runtime: what the learner is given, resuming, and the ratio."""

from __future__ import annotations

from pathlib import Path

import pytest
from off_policy_runs import CheckedLearner, counting_control_config, pointmass_config
from small_runs import assert_same, new_run

from deploy import local
from deploy.local import LocalRun
from repertory import checkpoint
from repertory.config import GuideConfig, ReplayConfig, RunConfig, SacConfig, Td3Config
from repertory.ports import State
from repertory.run_directory import RunDirectory
from repertory.types import Unroll


def test_every_replayed_step_and_window_was_played_and_is_whole() -> None:
    run = LocalRun(counting_control_config())
    checked = CheckedLearner(run.learner)
    played: dict[tuple[int, ...], set[tuple[float, ...]]] = {}
    insert = run.experience.insert

    def remember(unroll: Unroll) -> None:
        for t, lane in zip(*unroll.valid.nonzero(), strict=True):
            key = tuple(unroll.observation[t, lane].astype(int).tolist())
            played.setdefault(key, set()).add(tuple(unroll.action[t, lane].tolist()))
        insert(unroll)

    run.experience.insert = remember  # type: ignore[method-assign]
    for _ in range(60):
        run.round()
    assert checked.rows > 500
    assert checked.windows > 50
    assert checked.cut == 0
    # Two workers have two lanes of each task each: what is replayed is an action of one of them.
    for key, actions in checked.actions.items():
        assert actions <= played[key], key
    # All kinds of steps came: both kinds of ends, and steps in which another task's policy acted.
    assert checked.terminations > 0
    assert checked.truncations > 0
    assert checked.lent > 0
    run.close()


def state_after(run: RunDirectory, config: RunConfig, updates: int, *, resume: bool) -> State:
    """Train until `updates` updates and return the checkpoint written then."""
    code = local.train(config, run, resume, after_round=lambda r: r.loop.updates >= updates)
    assert code == 0
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    return state


CTPG = GuideConfig(kind="ctpg", step=4, filter_from=4, block="success", block_every=5)
ALGORITHMS = {
    "sac": SacConfig(exploration_steps=10, exploration="policy", guide=CTPG),
    "td3": Td3Config(exploration_steps=10, guide=CTPG),
}


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_twenty_updates_equal_ten_and_a_resume_and_ten(kind: str, tmp_path: Path) -> None:
    config = pointmass_config(ALGORITHMS[kind], saved=True)
    whole = state_after(new_run(tmp_path, config, "whole"), config, 20, resume=False)
    parts = new_run(tmp_path, config, "parts")
    state_after(parts, config, 10, resume=False)
    resumed = state_after(RunDirectory.open(parts.path), config, 20, resume=True)
    assert whole["counters"]["updates"] == 20
    for part in ("learner", "weights", "published", "experience", "workers", "counters"):
        assert_same(whole[part], resumed[part], part)
    assert_same(whole["recorder"]["averages"], resumed["recorder"]["averages"])


def test_without_saved_contents_a_resumed_run_refills_its_replay_and_makes_no_burst() -> None:
    config = pointmass_config(ALGORITHMS["sac"], saved=False)
    first = LocalRun(config)
    while first.loop.updates < 40:
        first.round()
    state = first.state()
    assert "rings" not in state["experience"]
    before = first.experience.steps
    resumed = LocalRun(config)
    resumed.restore(state)
    assert resumed.experience.steps == before
    assert resumed.loop.updates == first.loop.updates
    assert resumed.experience.metrics()["replay/rows"] == 0
    made = []
    for _ in range(12):
        updates = resumed.loop.updates
        resumed.round()
        made.append(resumed.loop.updates - updates)
    played = resumed.experience.steps - before
    # Every task owes its first steps again; from then on the ratio holds, debts are not called in.
    rows = config.learner.batch_size
    owed = 10 * 3
    assert made[0] == 0
    assert sum(made) == int((played - owed) * config.replay.samples_per_insert) // rows
    assert max(made) <= 12 * 5 * config.replay.samples_per_insert // rows + 1
    first.close()
    resumed.close()


def test_updates_keep_the_ratio_to_the_row() -> None:
    config = pointmass_config(ALGORITHMS["sac"], saved=False)
    config = config.model_copy(update={"replay": ReplayConfig(capacity=900, samples_per_insert=3)})
    run = LocalRun(config)
    for _ in range(20):
        run.round()
        beyond_first = run.experience.steps - 10 * 3
        due = max(0, beyond_first * 3 // config.learner.batch_size)
        assert run.loop.updates == due
    assert run.loop.updates > 20
    run.close()
