"""Transfer: a run on one task guided by the policies of an earlier run, end to end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from off_policy_runs import pointmass_config
from small_runs import assert_same, counting_config, new_run
from transfer_runs import EXPERT, OWN, algorithm, expert_run, student_config

from actors.control_policy import ControlPolicy
from deploy import build, local
from deploy.experts import expert_arrays, with_experts
from deploy.local import LocalRun
from deploy.overrides import resolve
from deploy.plan_text import plan_text
from deploy.preflight import check
from envs.point_mass import GAP
from learner.guide_windows import prepare, read_windows
from learner.replayed import to_device_windows
from repertory import checkpoint
from repertory.config import (
    CountingConfig,
    GuideConfig,
    NetworkConfig,
    RunConfig,
)
from repertory.errors import BadInput
from repertory.networks.control_agent import ControlAgent
from repertory.ports import State
from repertory.run_directory import RunDirectory
from repertory.seeding import stream
from repertory.types import ReplayBatch, Unroll, weights_from_state
from replay.task_replay import TaskReplay


def agent_of(run: LocalRun) -> ControlAgent:
    agent: ControlAgent = run.learner._update.agent  # type: ignore[attr-defined]
    return agent


def expert_tensors(state: State) -> dict[str, np.ndarray]:
    tensors = state["learner"]["networks"]["agent"]["tensors"]
    return {name: array for name, array in tensors.items() if name.startswith("experts.")}


@pytest.mark.parametrize("kind", ["sac", "td3"])
def test_an_expert_acts_is_found_in_hindsight_and_is_never_changed(
    kind: str, tmp_path: Path
) -> None:
    path = expert_run(tmp_path, kind=kind)
    config = with_experts(student_config(path, kind=kind))
    run = LocalRun(config, expert_arrays(config))
    agent = agent_of(run)
    assert agent.candidate_names == ("pointmass/beyond", "door:pointmass/door")
    before = {name: array.copy() for name, array in expert_tensors(run.state()).items()}
    assert len(before) == 4
    played: list[Unroll] = []
    insert = run.experience.insert
    run.experience.insert = lambda unroll: (played.append(unroll), insert(unroll))[1]  # type: ignore
    batches: list[ReplayBatch] = []
    learn = run.learner.update
    run.learner.update = lambda batch, progress: (  # type: ignore[method-assign,assignment]
        batches.append(batch),
        learn(batch, progress),
    )[1]
    for _ in range(100):
        run.round()
    assert run.loop.updates > 50
    guide = np.concatenate([unroll.guide[unroll.valid] for unroll in played])
    assert set(guide.tolist()) == {OWN, EXPERT}
    assert (run.experience.guide_counts().sum(0) > 0).tolist() == [True, True]  # type: ignore
    for name, array in expert_tensors(run.state()).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    # Who played a window is known; hindsight is told apart from it by the actions alone.
    windows = next(batch.windows for batch in batches if batch.windows is not None)
    device = torch.device("cpu")
    prepared = prepare(to_device_windows(windows, device), 1, "bootstrap")
    reading = read_windows(
        agent,
        prepared,
        hindsight=True,
        fresh=kind == "sac",
        generator=torch.Generator().manual_seed(1),
        number_format=torch.float32,
    )
    agreed = (reading.chosen == prepared.windows.guide).float().mean()
    assert set(reading.chosen.tolist()) == {OWN, EXPERT}
    assert agreed > 0.7
    run.close()


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", ["sac", "td3"])
def test_acting_as_an_expert_is_what_its_own_run_does(
    kind: str, greedy: bool, tmp_path: Path
) -> None:
    path = expert_run(tmp_path, kind=kind)
    config = with_experts(student_config(path, kind=kind))
    run = LocalRun(config, expert_arrays(config))
    theirs, _ = RunDirectory.open(path).read_config()
    state, _, _ = checkpoint.load_latest(path / "checkpoints", only=("weights",))
    seen = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
    actions = []
    for one, weights, candidate in (
        (theirs, weights_from_state(state["weights"]), 0),
        (config, run.learner.weights(), EXPERT),
    ):
        agent = build.control_agent(one, build.tasks_of(one))
        policy = ControlPolicy(agent, one, stream(3, "policy"), greedy=greedy)
        policy.load(weights)
        actions.append(policy.act_as(seen, np.full(5, candidate, np.int32)))
    np.testing.assert_array_equal(actions[0][0], actions[1][0])
    np.testing.assert_array_equal(actions[0][1], actions[1][1])
    if greedy:
        # As it was set by hand: towards the gap.
        wanted = np.tanh(5.0 * (np.array(GAP) - seen))
        np.testing.assert_allclose(actions[1][0], wanted, atol=1e-5)
    run.close()


def test_a_run_goes_on_to_the_bit_without_the_directories_of_its_experts(tmp_path: Path) -> None:
    path = expert_run(tmp_path)
    config = with_experts(student_config(path, saved=True))
    states = []
    for name, stops in (("whole", (30,)), ("parts", (15, 30))):
        run = new_run(tmp_path, config, name)
        for resume, updates in enumerate(stops):
            if resume:
                shutil.rmtree(path)
            saved, _ = run.read_config()
            assert saved == config
            local.train(saved, run, bool(resume), after_round=_until(updates))
        states.append(checkpoint.load_latest(run.checkpoints)[0])
    assert not path.exists()
    whole, parts = states
    for part in ("learner", "weights", "experience", "workers"):
        assert_same(whole[part], parts[part], part)
    assert all(np.isfinite(array).all() for array in expert_tensors(parts).values())


def _until(updates: int) -> Callable[[LocalRun], bool]:
    return lambda run: run.loop.updates >= updates


def test_a_checkpoint_with_other_experts_is_refused(tmp_path: Path) -> None:
    small = with_experts(student_config(expert_run(tmp_path)))
    wide = NetworkConfig(torso="mlp", hidden=8, layers=1, heads="per_task")
    other = with_experts(student_config(expert_run(tmp_path, name="wide", network=wide)))
    states = []
    for config in (small, other):
        run = LocalRun(config, expert_arrays(config))
        states.append(run.state())
        run.close()
    run = LocalRun(other)
    with pytest.raises(BadInput) as raised:
        run.restore(states[0])
    assert "the checkpoint holds another network (ControlAgent of" in str(raised.value)
    assert "experts.actors.0.biases.0 is (1, 1, 6) there and (1, 1, 8) here" in str(raised.value)
    run.restore(states[1])
    run.close()


def broken(path: Path) -> None:
    for file in path.glob("checkpoints/*/manifest.json"):
        file.unlink()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "there is no run directory {path}"),
    "no run": ({"empty": True}, "{path} is not a run directory: it has no config.json"),
    "no checkpoint": ({"saved": False}, "there is no checkpoint in {path}/checkpoints"),
    "broken": (
        {"broken": True},
        "no checkpoint in {path}/checkpoints is good (1 tried): checkpoint "
        "{path}/checkpoints/step_000000010 is damaged: manifest.json is missing",
    ),
    "td3": (
        {"kind": "td3"},
        "{path} is a run of td3, whose policies cannot be lent to one of sac: choose a run of sac",
    ),
    "other sizes": (
        {
            "tasks": ("counting/0",),
            "environment": CountingConfig(continuous=True, actions=4),
            "plain": True,
        },
        "{path} sees 3 numbers and plays 4, and this run 2 numbers and plays 2: a policy can only "
        "be lent between equal ones",
    ),
    "on policy": (
        {"on_policy": True},
        "{path} is a run of vtrace, whose policies cannot be lent to one of sac: choose a run of "
        "sac",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_expert_that_cannot_be_lent_is_refused_in_one_sentence_at_launch(
    what: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    how, sentence = WRONG[what]
    path = tmp_path / "experts" / "door"
    path.parent.mkdir()
    match how:
        case {"empty": True}:
            path.mkdir()
        case {"on_policy": True}:
            new_run(path.parent, counting_config(), "door")
        case {"plain": True}:
            rest = {name: value for name, value in how.items() if name != "plain"}
            settings = pointmass_config(algorithm("sac", GuideConfig()), saved=False, **rest)
            new_run(path.parent, settings, "door")
        case {"broken": True}:
            broken(expert_run(path.parent))
        case {} if how:
            expert_run(path.parent, **how)
        case _:
            pass
    config = tmp_path / "student.yaml"
    student = student_config(path)
    config.write_text(yaml.safe_dump(student.model_dump(mode="json")))
    outcome = command("train", "--config", str(config))
    assert outcome.code == 2
    assert outcome.sentence == "algorithm.guide.experts: " + sentence.format(path=path)
    assert outcome.files == []


def test_two_experts_of_one_name_are_refused(tmp_path: Path) -> None:
    path = expert_run(tmp_path)
    config = student_config(path)
    twice = config.algorithm.guide.model_copy(update={"experts": (str(path), str(path))})  # type: ignore[union-attr]
    config = config.model_copy(
        update={"algorithm": config.algorithm.model_copy(update={"guide": twice})}
    )
    with pytest.raises(BadInput) as raised:
        with_experts(config)
    assert str(raised.value) == (
        "algorithm.guide.experts: 2 runs are called door, so that metrics could not tell their "
        "policies apart: name each once, or rename a directory"
    )


def test_experts_without_a_guide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is none: use ctpg, qmp or bpt"):
        student_config(tmp_path, guide={"kind": "none"})


def test_what_a_dry_run_prints_is_the_same_run_again(tmp_path: Path) -> None:
    config = with_experts(student_config(expert_run(tmp_path)))
    printed = tmp_path / "printed.yaml"
    printed.write_text(plan_text(config, check(config)))
    assert resolve(RunConfig(), [printed], {}) == config
    with pytest.raises(BadInput, match=r"expected nothing \(launching fills it in\), got 'door'"):
        resolve(config, [], {"algorithm.guide.expert_networks": ("door",)})


@pytest.mark.parametrize("kind", ["qmp", "bpt"])
def test_other_guides_lend_an_expert_s_policy_too(kind: str, tmp_path: Path) -> None:
    guide = {"kind": kind, "trial_every": 1, "trial_episodes": 1}
    config = with_experts(student_config(expert_run(tmp_path), guide=guide))
    run = LocalRun(config, expert_arrays(config))
    for _ in range(30):
        run.round()
    assert isinstance(run.experience, TaskReplay)
    assert (run.experience.guide_counts() > 0).tolist() == [[True, True]]
    run.close()
