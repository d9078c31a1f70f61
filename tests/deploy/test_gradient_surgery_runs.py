"""Runs with gradient surgery: through the local runtime, and what is refused before one starts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from off_policy_runs import pointmass_config
from small_runs import assert_same, counting_config, new_run, rows
from test_documented_metrics import AXES, documented, written

from deploy import local
from repertory import checkpoint
from repertory.config import GradientConfig, RunConfig, SacConfig
from repertory.ports import State
from repertory.run_directory import RunDirectory

MT3 = ("train", "pointmass", "--dry-run")

WRONG = {
    "a method that is not there": (
        [*MT3, "--gradients.method", "pcgard"],
        "gradients.method: expected one of mean, harmony, pcgrad, gradnorm, ",
    ),
    "an aggregator that is not there": (
        [*MT3, "--gradients.method", "torchjd:UPGard"],
        "gradients.method: expected one of mean, harmony, pcgrad, gradnorm, torchjd:upgrad, ",
    ),
    "surgery on PPO": (
        ["train", "ppo", "--dry-run", "--gradients.method", "pcgrad"],
        "gradients.method pcgrad is for algorithm.kind vtrace, sac and td3, not ppo: use mean",
    ),
    "surgery that is compiled": (
        ["train", "quickstart", "--gradients.method=pcgrad", "--learner.compile=on"],
        "gradients.method pcgrad goes through one graph per task, which is not compiled: use "
        "learner.compile auto or off",
    ),
    "surgery on one task": (
        [*MT3, "--gradients.method", "gradnorm", "--tasks", "pointmass/door"],
        "gradients.method gradnorm joins the gradients of several tasks, and this run has only "
        "pointmass/door: use mean",
    ),
    "a radius that is none": (
        [*MT3, "--gradients.cagrad_radius", "1.5"],
        "gradients.cagrad_radius: expected a number at least 0 and below 1, got '1.5'.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_about_gradients_is_one_sentence(command, name):
    tokens, sentence = WRONG[name]
    outcome = command(*tokens)
    assert outcome.sentence.startswith(sentence)
    assert outcome.code == 2
    assert outcome.files == []
    if "not there" in name:
        assert "Did you mean '" in outcome.sentence


def test_a_missing_package_is_named_with_its_cure(command, monkeypatch):
    there = importlib.util.find_spec

    def find(name, *rest):
        return None if name in ("torchjd", "ecos") else there(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    outcome = command(*MT3, "--gradients.method", "torchjd:mgda")
    assert outcome.sentence == (
        "gradients.method torchjd:mgda needs torchjd, which is not installed: "
        "pip install -c constraints.txt '.[surgery]'"
    )
    assert outcome.code == 2


def after(config: RunConfig, root: Path, name: str, *stops: int) -> State:
    """Train to each of these numbers of updates in turn, and return the last checkpoint."""
    run = new_run(root, config, name)
    for number, stop in enumerate(stops):
        code = local.train(
            config, run, number > 0, after_round=lambda r, stop=stop: r.loop.updates >= stop
        )
        assert code == 0
        run = RunDirectory.open(root / name)
    state, _, _ = checkpoint.load_latest(run.checkpoints)
    return state


def test_v_trace_with_pcgrad_runs_and_resumes_to_the_bit(tmp_path: Path) -> None:
    config = counting_config(gradients=GradientConfig(method="pcgrad", metrics_every=3))
    whole = after(config, tmp_path, "whole", 12)
    parts = after(config, tmp_path, "parts", 5, 12)
    assert whole["counters"]["updates"] == 12
    for part in ("learner", "weights", "experience", "workers", "counters"):
        assert_same(whole[part], parts[part], part)
    assert whole["learner"]["gradients"]["cosines"][""].shape == (3, 3)
    plain = after(counting_config(), tmp_path, "plain", 12)
    assert not np.array_equal(plain["weights"]["vector"], whole["weights"]["vector"])
    seen = [row for row in rows(RunDirectory.open(tmp_path / "whole")) if "updates" in row]
    assert any(-1 <= row.get("learner/gradient_cosine_min", -2) <= 1 for row in seen)


@pytest.mark.parametrize("algorithm", ["vtrace", "sac"])
def test_what_surgery_reports_is_documented(tmp_path: Path, algorithm: str) -> None:
    if algorithm == "vtrace":
        gradients = GradientConfig(method="torchjd:upgrad", metrics_every=3)
        config = counting_config(gradients=gradients)
        telling = {"learner/gradient_cosine_min", "learner/gradient_fallbacks"}
    else:
        config = pointmass_config(
            SacConfig(exploration_steps=20),
            saved=False,
            total_steps=400,
            gradients=GradientConfig(method="gradnorm", metrics_every=3),
        )
        telling = {"learner/gradient_cosine_mean_actor", "task/<task>/gradient_weight"}
    names = written(tmp_path, config)
    assert telling <= names
    assert names - documented() - AXES == set()
