"""An exported agent is the run's, to the bit, and damage to it is never played."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import finetuned_runs
import numpy as np
import pytest
from off_policy_runs import pointmass_config
from safetensors.numpy import load_file
from small_runs import atari_config, counting_config, new_run
from test_harmony_runs import HARMONY

from deploy import build, local
from deploy.evaluation import evaluate, weights_of
from deploy.export.agent import ExportedAgent
from deploy.export.folder import is_exported, read_agent, read_learner_part, verify
from deploy.export.run import export
from deploy.saved_agent import saved_agent
from repertory import checkpoint
from repertory.config import GuideConfig, NetworkConfig, PopArtConfig, RunConfig, SacConfig
from repertory.errors import BadInput
from repertory.run_directory import RunDirectory
from repertory.types import weights_state

GUIDE = GuideConfig(kind="ctpg", step=3, filter_from=10, block="none")
VTRACE = {"network": NetworkConfig(torso="mlp", hidden=16, popart=PopArtConfig(enabled=True))}

CONFIGS = {
    "vtrace": counting_config(**VTRACE),
    "vtrace with masks": counting_config(**VTRACE, **HARMONY),
    "sac": pointmass_config(SacConfig(exploration_steps=20), saved=False),
    "guided sac with masks": pointmass_config(
        SacConfig(exploration_steps=20, guide=GUIDE), saved=False, **HARMONY
    ),
    "sac with masks": pointmass_config(SacConfig(exploration_steps=20), saved=False, **HARMONY),
}


def trained(root: Path, config: RunConfig, steps: int = 200) -> RunDirectory:
    """Train a little, and return the run's directory."""
    run = new_run(root, config)
    local.train(config, run, False, after_round=lambda r: r.experience.steps >= steps)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A short V-trace run with an evaluation."""
    found = trained(tmp_path_factory.mktemp("run"), CONFIGS["vtrace"])
    evaluate(
        CONFIGS["vtrace"],
        found,
        ["counting/0", "counting/7"],
        episodes=2,
        policies=["greedy", "random"],
        seed=3,
    )
    return found


@pytest.fixture
def exported(run: RunDirectory, tmp_path: Path) -> Path:
    """That run's agent in a folder."""
    export(run, tmp_path / "agent")
    return tmp_path / "agent"


def assert_same(left: object, right: object) -> None:
    """Compare two trees of arrays and numbers to the bit."""
    if isinstance(left, dict):
        assert isinstance(right, dict)
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert isinstance(right, list | tuple)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_what_an_export_plays_is_what_the_checkpoint_plays_to_the_bit(tmp_path, kind):
    run = trained(tmp_path, CONFIGS[kind])
    export(run, tmp_path / "agent")
    theirs = saved_agent(run, with_critic=True)
    found = read_agent(tmp_path / "agent")
    assert_same(weights_state(theirs.weights), weights_state(found.weights))
    assert (found.env_steps, found.source) == (theirs.env_steps, theirs.source)
    assert (
        (found.critic is None) == (theirs.critic is None) == ("sac" not in kind or "guid" in kind)
    )
    if theirs.critic is not None:
        assert_same(dict(theirs.critic.tensors), dict(found.critic.tensors))
        assert (theirs.critic.masks is None) == (found.critic.masks is None)
        if theirs.critic.masks is not None:
            assert_same(theirs.critic.masks.bits, found.critic.masks.bits)


def test_evaluating_an_export_gives_the_returns_of_its_run(command, run, exported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    tokens = ("--task", "counting/0", "counting/2", "--policy", "greedy", "sampled")
    results = []
    for path in (copy, exported):
        outcome = command("evaluate", str(path), *tokens, "--episodes", "2")
        assert outcome.code == 0, outcome.err
        (written,) = [file for file in outcome.out.splitlines() if file.startswith("written to")]
        scores = json.loads(Path(written.removeprefix("written to ")).read_text())
        results.append([(s["task"], s["policy"], s["returns"]) for s in scores["scores"]])
        assert scores["env_steps"] == saved_agent(run).env_steps
    assert results[0] == results[1]
    # That evaluation lies beside the files of the export, which are still what they were.
    verify(exported)


def test_an_exported_agent_is_filmed(command, tmp_path):
    run = trained(tmp_path, CONFIGS["sac"])
    export(run, tmp_path / "agent")
    outcome = command("watch", "agent", "--task", "pointmass/door", "--max-steps", "5")
    assert outcome.code == 0, outcome.err
    assert outcome.files == [
        str(tmp_path / "agent" / "videos"),
        str(tmp_path / "agent" / "videos" / "pointmass-door-greedy.mp4"),
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "manifest.json"])
def test_a_flipped_byte_anywhere_is_refused_in_one_sentence(command, exported, name):
    file = exported / name
    whole = file.read_bytes()
    for position in np.linspace(0, len(whole) - 3, 9).astype(int):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(BadInput):
            verify(exported)
    outcome = command("evaluate", str(exported))
    assert outcome.code == 2
    assert outcome.sentence.startswith(f"the exported agent {exported} is damaged: ")
    assert outcome.files == []


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_missing_file_is_named(command, exported, name):
    (exported / name).unlink()
    outcome = command("watch", str(exported))
    assert outcome.code == 2
    assert outcome.sentence == f"the exported agent {exported} is damaged: {name} is missing"


def test_the_model_card_may_be_edited(exported):
    (exported / "README.md").write_text("Ours.")
    verify(exported)
    (exported / "README.md").unlink()
    verify(exported)


def test_arrays_are_named_and_unpickled_by_nobody(run, exported):
    config = run.read_config()[0]
    arrays = load_file(exported / "model.safetensors")
    network = build.network(config, build.tasks_of(config))
    assert arrays.keys() == network.state_dict().keys()
    state = checkpoint.load_latest(run.checkpoints, only=("learner",))[0]["learner"]
    for name, array in state["network"]["tensors"].items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    # Unlike the weights that travel to actors, it holds PopArt's statistics unrounded.
    assert arrays["value.mu"].dtype == np.float64
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md",
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("kind", ["vtrace with masks", "sac with masks"])
def test_a_run_that_begins_with_an_export_finds_what_the_learner_had(tmp_path, kind):
    run = trained(tmp_path, CONFIGS[kind])
    export(run, tmp_path / "agent")
    config, part = read_learner_part(tmp_path / "agent")
    assert config == run.read_config()[0]
    saved = checkpoint.load_latest(run.checkpoints, only=("learner",))[0]["learner"]
    if "network" in part:
        assert_same(part["masks"]["masks"], saved["masks"]["masks"])
        pairs = [(part["network"], saved["network"])]
    else:
        for name in ("actor", "critic"):
            assert_same(part["masks"][name]["masks"], saved["masks"][name]["masks"])
        pairs = [(part["networks"][name], saved["networks"][name]) for name in ("agent", "critic")]
    for ours, theirs in pairs:
        assert ours["tensors"].keys() == theirs["tensors"].keys()
        for name, array in theirs["tensors"].items():
            assert_same(ours["tensors"][name], array)


@pytest.mark.parametrize(
    ("kind", "new"),
    [("vtrace with masks", "counting/5"), ("sac with masks", "pointmass/door")],
)
def test_fine_tuning_begins_with_an_export_as_with_its_run(tmp_path, kind, new):
    run = trained(tmp_path, CONFIGS[kind])
    export(run, tmp_path / "agent")
    begun_with = []
    for path in (run.path, tmp_path / "agent"):
        begun = finetuned_runs.begun(finetuned_runs.child_config(path, new))
        begun_with.append(begun.state()["learner"])
        begun.close()
    theirs, ours = map(finetuned_runs.networks_of, begun_with)
    assert_same(theirs, ours)
    fresh = finetuned_runs.begun(finetuned_runs.child_config(run.path, new, weights=False))
    scratch = finetuned_runs.networks_of(fresh.state()["learner"])
    fresh.close()
    network = next(iter(ours))
    assert any(
        not np.array_equal(array, scratch[network][name]) for name, array in ours[network].items()
    )


def test_the_card_says_tasks_protocol_and_scores(run, exported):
    card = (exported / "README.md").read_text()
    steps = saved_agent(run).env_steps
    assert f"after {steps:,} agent steps" in card
    for task in ("counting/0", "counting/1", "counting/2"):
        assert f"- `{task}`" in card
    # Every counting episode counts to the same number, whoever plays it.
    assert "| task | greedy | random |" in card
    assert "| `counting/0` | 21.0 ± 0.0, n = 2 | 21.0 ± 0.0, n = 2 |" in card
    assert "| `counting/7` (never trained on) | 91.0 ± 0.0, n = 2 |" in card
    assert "Apache-2.0" in card
    assert "## Limits" in card


def test_scores_of_other_weights_are_marked(run, tmp_path):
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    (file,) = copy.evaluations.glob("*.json")
    body = json.loads(file.read_text())
    body["env_steps"] = 77
    file.write_text(json.dumps(body))
    (copy.evaluations / "step_000000000001-torn.json").write_text("{")
    export(copy, tmp_path / "agent")
    card = (tmp_path / "agent" / "README.md").read_text()
    assert "| 21.0 ± 0.0, n = 2 (at 77 steps) | 21.0 ± 0.0, n = 2 |" in card


def test_scores_of_these_weights_go_before_newer_ones_of_others(run, tmp_path):
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    (file,) = copy.evaluations.glob("*.json")
    body = json.loads(file.read_text())
    for steps, year, value in ((77, "2999", 7.0), (body["env_steps"], "2998", 8.0)):
        other = body | {"env_steps": steps}
        other["scores"] = [score | {"returns": [value]} for score in body["scores"][:1]]
        (copy.evaluations / f"step_{steps:012d}-{year}.json").write_text(json.dumps(other))
    export(copy, tmp_path / "agent")
    card = (tmp_path / "agent" / "README.md").read_text()
    assert "| `counting/0` | 8.0, n = 1 |" in card


def test_of_random_play_the_latest_goes_before_that_of_the_same_step(run, tmp_path):
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    (file,) = copy.evaluations.glob("*.json")
    body = json.loads(file.read_text())
    later = body | {"env_steps": 0}
    later["scores"] = [s | {"returns": [9.0]} for s in body["scores"] if s["policy"] == "random"]
    (copy.evaluations / "step_000000000000-2999.json").write_text(json.dumps(later))
    export(copy, tmp_path / "agent")
    card = (tmp_path / "agent" / "README.md").read_text()
    assert "| `counting/0` | 21.0 ± 0.0, n = 2 | 9.0, n = 1 |" in card


def test_the_program_on_the_card_plays_the_first_episode_of_evaluations(
    exported, monkeypatch, capsys
):
    card = (exported / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(program.splitlines()) <= 10
    monkeypatch.chdir(exported.parent)
    (exported.parent / "DIR").symlink_to(exported)
    exec(compile(program, "card", "exec"), {})
    assert capsys.readouterr().out == "21.0\n"


def test_the_program_on_the_how_to_page_plays_an_export_as_the_card_s_does(
    exported, monkeypatch, capsys
):
    page = Path(__file__).resolve().parents[2] / "docs/how-to/films-and-exports.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(exported.parent)
    (exported.parent / "breakout-agent").symlink_to(exported)
    exec(compile(program, "page", "exec"), {})
    assert capsys.readouterr().out == "counting/0 21.0\n"


def test_an_exported_agent_stacks_frames_and_remembers_as_evaluation_does(tmp_path):
    config = atari_config()
    run = trained(tmp_path, config, 40)
    export(run, tmp_path / "agent")
    agent = ExportedAgent.open(tmp_path / "agent")
    task = config.tasks[1]
    scores, _ = evaluate(
        config, run, [task], episodes=1, policies=["greedy"], seed=config.evaluation.seed
    )
    lanes, act = agent.lanes(task), agent.acting(task)
    observation, started, total = lanes.reset(), np.array([True]), 0.0
    for _ in range(config.evaluation.max_steps):
        step = lanes.step(act(observation, started))
        observation, started = step.observation.copy(), step.started.copy()
        total += float(step.reward[0])
    assert (total,) == scores[0].returns


def test_an_export_overwrites_nothing(command, run, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes").write_text("mine")
    cases = {
        "full": "full is not empty, and an export overwrites nothing: name a new folder",
        "full/notes": "full/notes is a file, and an export overwrites nothing: name a new folder",
        "none/agent": "cannot export to none/agent: the folder around it does not exist",
    }
    for name, sentence in cases.items():
        outcome = command("export", str(run.path), name)
        assert (outcome.code, outcome.sentence, outcome.files) == (2, sentence, [])
    empty = tmp_path / "empty"
    empty.mkdir()
    outcome = command("export", str(run.path), "empty")
    assert outcome.code == 0, outcome.err
    assert "scores of 1 of 3 tasks; written to empty" in outcome.out
    again = command("export", "empty", "other")
    assert again.sentence == "empty is an exported agent already: copy the folder"


def test_an_export_without_a_folder_is_named_after_its_run(command, run, tmp_path):
    assert command("export", str(run.path)).code == 0
    assert is_exported(tmp_path / f"{run.name}-agent")


def test_an_export_has_no_checkpoints_to_choose(command, run, exported):
    (newest,) = checkpoint.list_checkpoints(run.checkpoints)
    outcome = command("evaluate", str(exported), "--checkpoint", str(newest))
    assert outcome.code == 2
    assert "is an exported agent, which has no checkpoints to choose" in outcome.sentence


def test_training_goes_on_with_runs_only(command, exported):
    outcome = command("train", "--resume", str(exported))
    assert outcome.code == 2
    assert "is an exported agent, which has nothing to go on learning with" in outcome.sentence
    assert outcome.files == []


def test_an_export_is_of_the_checkpoint_asked_for(run, tmp_path):
    (only,) = checkpoint.list_checkpoints(run.checkpoints)
    export(run, tmp_path / "agent", only)
    assert weights_of(RunDirectory(tmp_path / "agent"))[1] == checkpoint.step_of(only)
