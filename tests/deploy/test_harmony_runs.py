"""Runs whose tasks have masks: through the local runtime, resumed, evaluated, and what is refused.

Axes: M tasks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from off_policy_runs import counting_control_config, pointmass_config
from small_runs import assert_same, counting_config, new_run
from test_documented_metrics import AXES, documented, written
from test_gradient_surgery_runs import after

from deploy import build, local
from deploy.evaluation import evaluate_weights, weights_of
from repertory import checkpoint
from repertory.config import GradientConfig, MaskConfig, RunConfig, SacConfig
from repertory.errors import BadInput
from repertory.masks import PackedMasks, pack
from repertory.run_directory import RunDirectory
from repertory.seeding import stream
from repertory.types import Weights

HARMONY: dict[str, Any] = {
    "gradients": GradientConfig(method="harmony"),
    "masks": MaskConfig(
        variant="fisher",
        alpha=0.05,
        schedule="constant",
        every=3,
        score_batches=2,
        warm_up=0.0,
        freeze=0.0,
        metrics_every=3,
    ),
}

WRONG = {
    "no weight left": (
        ["train", "pointmass", "--masks.sparsity", "1.0"],
        "masks.sparsity: expected a number at least 0 and below 1, got '1.0'.",
    ),
    "more weights than there are": (
        ["train", "pointmass", "--masks.sparsity", "-0.1"],
        "masks.sparsity: expected a number at least 0 and below 1, got '-0.1'.",
    ),
    "no room for gradients": (
        ["train", "pointmass", "--masks.gradient_bytes", "0"],
        "masks.gradient_bytes: expected an integer above 0, got '0'.",
    ),
    "a vote that nobody can win": (
        ["train", "pointmass", "--gradients.method=harmony", "--masks.unseen_votes", "3"],
        "masks.unseen_votes 3 would leave a task that was not trained on without weights, for none "
        "has more votes than 3 tasks: make it smaller, or 0 for as many weights as a task owns",
    ),
    "more than masks can give": (
        ["train", "pointmass", "--masks.variant", "fisher", "--masks.alpha", "0.5"],
        "masks.alpha 0.5 is more than masks of sparsity 0.2 can exchange in one update: at most "
        "0.2",
    ),
    "one task": (
        ["train", "pointmass", "--gradients.method=harmony", "--tasks", "pointmass/door"],
        "gradients.method harmony joins the gradients of several tasks, and this run has only "
        "pointmass/door: use mean",
    ),
    "PPO": (
        ["train", "ppo", "--gradients.method", "harmony"],
        "gradients.method harmony is for algorithm.kind vtrace, sac and td3, not ppo: use mean",
    ),
    "a compiled update": (
        ["train", "quickstart", "--gradients.method=harmony", "--learner.compile=on"],
        "gradients.method harmony computes each task's rows by a network of its own, which is not "
        "compiled: use learner.compile auto or off",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_about_masks_is_one_sentence(command, name):
    tokens, sentence = WRONG[name]
    outcome = command(*tokens, "--dry-run")
    assert outcome.sentence.startswith(sentence)
    assert outcome.code == 2
    assert outcome.files == []


@pytest.mark.parametrize("algorithm", ["vtrace", "ctpg"])
def test_a_run_under_masks_resumes_to_the_bit(tmp_path: Path, algorithm: str) -> None:
    def made(**settings: Any) -> RunConfig:
        if algorithm == "vtrace":
            return counting_config(**settings)
        guide = counting_control_config().algorithm.guide
        sac = SacConfig(exploration_steps=20, exploration="policy", guide=guide)
        return pointmass_config(sac, saved=True, **settings)

    config = made(**HARMONY)
    whole = after(config, tmp_path, "whole", 10)
    parts = after(config, tmp_path, "parts", 5, 10)
    for part in ("learner", "weights", "experience", "workers", "counters"):
        assert_same(whole[part], parts[part], part)
    updates = whole["counters"]["updates"]
    assert updates >= 10
    masks = whole["weights"]["masks"]
    assert [one["version"] for one in masks] == [updates // 3] * (1 if algorithm == "vtrace" else 2)
    plain = after(made(), tmp_path, "plain", 10)
    assert plain["weights"]["masks"] is None
    assert not np.array_equal(plain["weights"]["vector"], whole["weights"]["vector"])


def test_unrolls_carry_the_version_of_the_masks_that_acted() -> None:
    run = local.LocalRun(counting_config(**HARMONY))
    plain = local.LocalRun(counting_config())
    seen = set()
    try:
        assert plain.workers[0].iterate().mask_version == -1
        for _ in range(12):
            newest = run.weights.latest
            assert newest is not None
            unroll = run.workers[0].iterate()
            assert unroll.mask_version == newest.mask_version
            assert set(unroll.policy_version) == {newest.version}
            seen.add(unroll.mask_version)
            run.round()
    finally:
        run.close()
        plain.close()
    assert len(seen) > 2
    assert min(seen) == 0


@pytest.mark.parametrize("made", [counting_config, counting_control_config])
def test_evaluation_plays_with_the_masks_of_the_checkpoint(tmp_path: Path, made: Any) -> None:
    config: RunConfig = made(**HARMONY)
    after(config, tmp_path, "run", 4)
    weights, _ = weights_of(RunDirectory.open(tmp_path / "run"))
    names = ["counting/0", "counting/7"]
    scores = evaluate_weights(config, weights, names, episodes=1, policies=["greedy"], seed=1)
    assert [score.task for score in scores] == names
    tasks = build.tasks_of(config)
    rows = np.ones((3, *tasks[0].observation.shape), np.float32)
    task = np.arange(3, dtype=np.int32)

    def chosen(acting: Weights) -> np.ndarray:
        policy = build.acting_policy(config, tasks, stream(1, "test"))
        policy.load(acting)
        recurrent = np.zeros((3, policy.recurrent_size), np.float32)
        return policy.act(rows, task, recurrent, np.ones(3, bool)).log_probability

    assert weights.masks is not None
    full = tuple(everything(one) for one in weights.masks)
    dense = Weights(weights.version, weights.vector, weights.guided, full)
    assert np.abs(chosen(weights) - chosen(dense)).max() > 1e-4
    with pytest.raises(ValueError, match="masks"):
        chosen(Weights(weights.version, weights.vector, weights.guided))


def everything(masks: PackedMasks) -> PackedMasks:
    """Return masks by which every task owns every weight."""
    return pack(np.ones((masks.tasks, masks.weights), np.bool_), masks.version)


@pytest.mark.parametrize("algorithm", ["vtrace", "sac"])
def test_what_masks_report_is_documented(tmp_path: Path, algorithm: str) -> None:
    if algorithm == "vtrace":
        config, ending = counting_config(**HARMONY), ""
    else:
        config = pointmass_config(
            SacConfig(exploration_steps=20), saved=False, total_steps=400, **HARMONY
        )
        ending = "_critic"
    names = {
        re.sub(r"^(learner/(harmony_layer|mask_density)\w*)/.*", r"\1/<layer>", name)
        for name in written(tmp_path, config)
    }
    assert {f"learner/{n}{ending}" for n in ("harmony", "mask_flips", "mask_overlap")} <= names
    assert f"learner/harmony_layer{ending}/<layer>" in names
    assert f"learner/mask_density{ending}/<layer>" in names
    assert names - documented() - AXES == set()


def test_a_run_under_masks_cannot_be_an_expert(tmp_path: Path) -> None:
    from deploy.experts import with_experts

    config = pointmass_config(SacConfig(exploration_steps=20), saved=False, **HARMONY)
    run = new_run(tmp_path, config)
    assert local.train(config, run, False, after_round=lambda r: r.loop.updates >= 1) == 0
    assert checkpoint.load_latest(run.checkpoints)[0]["weights"]["masks"] is not None
    guide = counting_control_config().algorithm.guide.model_copy(
        update={"experts": (str(run.path),)}
    )
    borrowing = pointmass_config(SacConfig(guide=guide), saved=False)
    with pytest.raises(BadInput, match="policies are nothing without their masks"):
        with_experts(borrowing)
