"""Fine-tuning: what a run on new tasks takes over, what stays frozen, and where it is recorded.

Axes: N rows, M tasks of the earlier run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuned_runs import begun, child_config, learner_of, networks_of, pretrained
from off_policy_runs import NETWORK, counting_control_config, pointmass_config
from small_runs import assert_same, counting_config

from deploy import local
from deploy.local import LocalRun
from repertory import checkpoint
from repertory.config import (
    GradientConfig,
    GuideConfig,
    MaskConfig,
    NetworkConfig,
    PopArtConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.errors import BadInput
from repertory.masks import masks_from_state, voted_mask
from repertory.run_directory import RunDirectory

NEW = "counting/5"
POPART = PopArtConfig(enabled=True)
SAC = SacConfig(exploration_steps=20, exploration="policy")
TD3 = Td3Config(exploration_steps=20, exploration="policy")


def on_policy(**network: Any) -> RunConfig:
    return counting_config(network=NetworkConfig(torso="mlp", hidden=16, **network))


def control(algorithm: SacConfig | Td3Config = SAC, **changes: Any) -> RunConfig:
    return counting_control_config(algorithm=algorithm, **changes)


def network_of(run: LocalRun) -> Any:
    return run.learner._update.network  # type: ignore[attr-defined]


def agent_of(run: LocalRun) -> Any:
    return run.learner._update.agent  # type: ignore[attr-defined]


def restored(path: Path) -> LocalRun:
    """Return the pre-trained run itself, to ask its network."""
    config, _ = RunDirectory.open(path).read_config()
    run = LocalRun(config)
    run.learner.restore(learner_of(path))
    return run


OBSERVATION = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))


def logits_and_values(network: Any, task: int) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.full((7,), task)
    features = network._see(OBSERVATION)
    if network.conditioning is not None:
        features = network.conditioning(features, index)
    return network.policy(features), network.value.values(features, index)


@pytest.mark.parametrize("conditioning", ["none", "one_hot", "embedding"])
def test_training_on_a_new_task_starts_from_the_policy_that_zero_shot_evaluation_plays(
    tmp_path: Path, conditioning: str
) -> None:
    path = pretrained(tmp_path, on_policy(conditioning=conditioning))
    zero_shot, _ = logits_and_values(network_of(restored(path)), task=3)
    child, _ = logits_and_values(network_of(begun(child_config(path, NEW))), task=0)
    torch.testing.assert_close(child, zero_shot)


def test_a_new_task_values_states_as_the_mean_of_the_trained_tasks_do_and_in_their_units(
    tmp_path: Path,
) -> None:
    path = pretrained(tmp_path, on_policy(conditioning="none", popart=POPART))
    parent = network_of(restored(path))
    own = network_of(begun(child_config(path, "counting/1", NEW)))
    trained = [logits_and_values(parent, task)[1] for task in range(3)]
    torch.testing.assert_close(logits_and_values(own, 0)[1], trained[1])
    mean = torch.stack(trained).mean(0)
    torch.testing.assert_close(logits_and_values(own, 1)[1], mean, rtol=1e-4, atol=1e-5)
    # The moments are those of a sample with as many targets of every trained task.
    head = parent.value
    assert float(own.value.mu[1]) == pytest.approx(float(head.mu.mean()))
    variance = (head.sigma**2).mean() + head.mu.var(unbiased=False)
    assert float(own.value.sigma[1]) == pytest.approx(float(variance.sqrt()))


def test_a_task_that_was_trained_on_keeps_what_was_its_own(tmp_path: Path) -> None:
    path = pretrained(tmp_path, on_policy(conditioning="one_hot", popart=POPART))
    parent = network_of(restored(path))
    own = network_of(begun(child_config(path, NEW, "counting/2", "counting/0")))
    for here, there in ((1, 2), (2, 0)):
        for mine, theirs in zip(
            logits_and_values(own, here), logits_and_values(parent, there), strict=True
        ):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("algorithm", [SAC, TD3], ids=["sac", "td3"])
def test_an_off_policy_agent_hands_over_actor_critics_and_targets(
    tmp_path: Path, algorithm: SacConfig | Td3Config
) -> None:
    path = pretrained(tmp_path, control(algorithm))
    parent, child = restored(path), begun(child_config(path, NEW, "counting/1"))
    for name in ("actor", "critic"):
        theirs = getattr(parent.learner._update, name, None) or agent_of(parent).actor  # type: ignore[attr-defined]
        own = getattr(child.learner._update, name, None) or agent_of(child).actor  # type: ignore[attr-defined]
        inputs = torch.randn(4, theirs.inputs, generator=torch.Generator().manual_seed(2))
        for here, there in ((0, 3), (1, 1)):
            torch.testing.assert_close(
                own.forward(inputs, torch.full((4,), here)),
                theirs.forward(inputs, torch.full((4,), there)),
            )
    networks = networks_of(child.learner.state())
    critic = {k: networks["critic"][k] for k in networks["target_critic"]}
    assert_same(networks["target_critic"], critic)
    if "target_actor" in networks:
        actor = {k: networks["agent"][f"actor.{k}"] for k in networks["target_actor"]}
        assert_same(networks["target_actor"], actor)


def test_a_new_head_and_temperature_are_the_mean_of_the_trained_ones(tmp_path: Path) -> None:
    guide = GuideConfig(kind="ctpg", step=4, filter_from=10, block="none")
    guided = SAC.model_copy(update={"guide": guide})
    heads = NETWORK.model_copy(update={"heads": "per_task", "conditioning": "none"})
    # With a guide the critic travels in the agent; alone, it is the learner's.
    path = pretrained(tmp_path, control(guided, network=heads))
    theirs = networks_of(learner_of(path))["agent"]
    child = begun(child_config(path, NEW, "counting/2", algorithm=SAC.model_dump()))
    own = networks_of(child.learner.state())
    for mine, key in (
        (own["agent"]["actor.head_weight"], "actor.head_weight"),
        (own["critic"]["head_bias"], "critic.head_bias"),
    ):
        np.testing.assert_allclose(mine[:, 0], theirs[key].mean(1), rtol=1e-6)
        np.testing.assert_array_equal(mine[:, 1], theirs[key][:, 2])
    temperatures = own["agent"]["log_temperature"]
    assert temperatures[0] == pytest.approx(theirs["log_temperature"].mean())
    assert temperatures[1] == theirs["log_temperature"][2]


def test_reset_heads_are_as_drawn_from_the_new_run_s_seed(tmp_path: Path) -> None:
    path = pretrained(tmp_path, on_policy(popart=POPART))
    config = child_config(path, NEW, reuse="reset-heads")
    own = networks_of(begun(config).learner.state())["network"]
    drawn = networks_of(LocalRun(config).learner.state())["network"]
    theirs = networks_of(learner_of(path))["network"]
    for name, array in own.items():
        anew = name.startswith(("policy.", "value."))
        np.testing.assert_array_equal(array, drawn[name] if anew else theirs[name], err_msg=name)
    assert not np.array_equal(own["policy.weight"], theirs["policy.weight"])


FROZEN = {
    "vtrace": (on_policy(conditioning="one_hot"), ("torso.",)),
    "ppo": (
        counting_config(
            algorithm={"kind": "ppo", "minibatches": 2},
            network=NetworkConfig(torso="mlp", hidden=16),
        ),
        ("torso.",),
    ),
    "sac": (control(), ("actor.weights", "actor.biases", "weights.", "biases.")),
    "td3": (control(TD3), ("actor.weights", "actor.biases", "weights.", "biases.")),
}


@pytest.mark.parametrize("kind", FROZEN)
def test_a_frozen_torso_is_the_same_to_the_bit_after_training_and_everything_else_is_not(
    tmp_path: Path, kind: str
) -> None:
    config, frozen = FROZEN[kind]
    path = pretrained(tmp_path, config)
    run = begun(child_config(path, NEW, "counting/1", reuse="frozen-torso"))
    before = networks_of(run.learner.state())
    while run.loop.updates < 12:
        run.round()
    after = networks_of(run.learner.state())
    for network, tensors in before.items():
        for name, array in tensors.items():
            same = np.array_equal(array, after[network][name])
            # The value head's statistics do not exist without PopArt; biases may start at zero.
            assert same == name.startswith(frozen), f"{network} {name}"


def test_a_fine_tuned_run_goes_on_without_the_run_it_began_with(tmp_path: Path) -> None:
    path = pretrained(tmp_path, on_policy(conditioning="one_hot", popart=POPART))
    config = child_config(path, NEW, reuse="frozen-torso", total_steps=600)
    whole, halved = (RunDirectory.create(tmp_path, "x", name) for name in ("whole", "halved"))
    for run in (whole, halved):
        run.write_config(config, {})
    local.train(config, whole, False)
    local.train(config, halved, False, after_round=lambda run: run.experience.steps >= 300)
    shutil.rmtree(path)
    local.train(config, halved, True)
    first, second = learner_of(whole.path), learner_of(halved.path)
    for state in (first, second):
        state.pop("metrics", None)
    assert_same(first, second)


def test_each_gives_every_task_a_run_of_its_own_and_scratch_is_the_same_run_without_the_weights(
    tmp_path: Path, command: Any
) -> None:
    pretrained(tmp_path / "runs", on_policy())
    flags = ("--each", "--name", "first", "--total_steps", "120", "--evaluation.at_end", "false")
    tasks = ("--task", "counting/4", "counting/5")
    assert command("finetune", "runs/parent", *tasks, *flags).code == 0
    scratch = ("--from-scratch", *flags[:2], "bare", *flags[3:])
    assert command("finetune", "runs/parent", *tasks, *scratch).code == 0
    saved = {
        name: json.loads((tmp_path / "runs" / name / "config.json").read_text())["config"]
        for name in ("first-4", "first-5", "bare-4", "bare-5")
    }
    assert saved["first-5"]["tasks"] == ["counting/5"]
    assert saved["first-5"]["initial"] == {
        "parent": "runs/parent",
        "checkpoint": "step_000000600",
        "parent_tasks": ["counting/0", "counting/1", "counting/2"],
        "reuse": "all",
        "masks": "voted",
    }
    assert saved["bare-5"]["initial"]["reuse"] == "none"
    for name in ("recipe", "initial"):
        for one in saved.values():
            one.pop(name)
    assert saved["first-4"] == saved["bare-4"]
    assert saved["first-5"] == saved["bare-5"]


def harmony(config: RunConfig) -> RunConfig:
    masks = MaskConfig(sparsity=0.4, metrics_every=2, warm_up=0.0, freeze=0.0)
    gradients = GradientConfig(method="harmony")
    return config.model_copy(update={"masks": masks, "gradients": gradients})


def masks_in(learner: dict[str, Any]) -> dict[str, np.ndarray]:
    masks = learner["masks"]
    by_part = {"": masks} if "masks" in masks else masks
    return {part: masks_from_state(one["masks"]).unpack() for part, one in by_part.items()}


@pytest.mark.parametrize("config", [on_policy(), control()], ids=["vtrace", "sac"])
def test_a_new_task_wears_the_vote_of_the_trained_tasks_or_one_s_mask_or_none(
    tmp_path: Path, config: RunConfig
) -> None:
    path = pretrained(tmp_path, harmony(config))
    theirs = masks_in(learner_of(path))
    run = begun(child_config(path, NEW))
    while run.loop.updates < 4:
        run.round()
    for part, masks in masks_in(run.learner.state()).items():
        np.testing.assert_array_equal(masks[0], voted_mask(theirs[part]))
        assert 0.1 < masks[0].mean() < 0.9
    assert all(np.isfinite(value) for value in run.learner.metrics().values())
    both = begun(child_config(path, "counting/1", NEW, masks="source:counting/2"))
    for part, masks in masks_in(both.learner.state()).items():
        np.testing.assert_array_equal(masks, theirs[part][[1, 2]])
    dense = child_config(path, NEW, masks="dense")
    assert dense.gradients.method == "mean"
    assert begun(dense).learner.weights().masks is None
    assert child_config(path, NEW, weights=False).gradients.method == "mean"


def test_the_batch_and_the_gradients_method_fit_the_new_tasks(tmp_path: Path) -> None:
    config = control(gradients=GradientConfig(method="pcgrad"))
    path = pretrained(tmp_path, config)
    assert config.learner.batch_size == 12
    alone = child_config(path, NEW)
    assert (alone.learner.batch_size, alone.gradients.method) == (12, "mean")
    five = [f"counting/{number}" for number in range(5)]
    together = child_config(path, *five)
    assert (together.learner.batch_size, together.gradients.method) == (10, "pcgrad")


WRONG = {
    "another size": (
        ["--environment.actions", "5"],
        "runs/parent plays 4 actions on observations of 3, but counting/5 has 5 actions and "
        "observations of 3: weights fit only tasks of the same sizes",
    ),
    "another network": (
        ["--network.hidden", "32"],
        "network.hidden is 16 in runs/parent and 32 was given: fine-tuning keeps the network as it "
        "was",
    ),
    "another suite": (
        ["--task", "pointmass/door"],
        "'pointmass/door' is of the suite pointmass, but environment.suite is counting; a run's "
        "tasks are all of one suite.",
    ),
    "nothing to freeze": (
        ["--from-scratch", "--reuse", "frozen-torso"],
        "--from-scratch loads nothing, so there is nothing to reuse: drop --reuse frozen-torso",
    ),
    "no masks": (
        ["--masks", "source:counting/1"],
        "--masks source:counting/1 needs a run of gradients.method harmony, and runs/parent is one "
        "of mean: leave it out",
    ),
    "no masks to leave out": (
        ["--masks", "dense"],
        "--masks dense needs a run of gradients.method harmony, and runs/parent is one of mean: "
        "leave it out",
    ),
    "a checkpoint that is not there": (
        ["--checkpoint", "runs/parent/checkpoints/step_000000007"],
        "there is no checkpoint at runs/parent/checkpoints/step_000000007",
    ),
    "held-out tasks of none": (
        ["--held-out"],
        "runs/parent holds no task out: name tasks with --task",
    ),
    "tasks as a setting": (
        ["--tasks", "counting/3"],
        "tasks and initial are chosen by --task and --reuse: drop the settings",
    ),
    "surgery on what is frozen": (
        ["--reuse", "frozen-torso", "--gradients.method", "pcgrad"],
        "a frozen torso leaves gradients.method pcgrad no shared weights to act on: use mean (with "
        "--masks dense where the earlier run had masks), or --reuse all",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_fine_tuned_is_refused_in_one_sentence_and_nothing_is_written(
    tmp_path: Path, command: Any, case: str
) -> None:
    given, sentence = WRONG[case]
    pretrained(tmp_path / "runs", counting_config(held_out=()))
    task = [] if "--task" in given or "--held-out" in given else ["--task", NEW]
    outcome = command("finetune", "runs/parent", *task, *given)
    assert (outcome.code, outcome.sentence, outcome.files) == (2, sentence, [])


def test_a_run_without_a_checkpoint_has_only_a_baseline(tmp_path: Path, command: Any) -> None:
    path = pretrained(tmp_path / "runs", counting_config())
    shutil.rmtree(path / "checkpoints")
    refused = command("finetune", "runs/parent", "--task", NEW)
    assert refused.sentence == "there is no checkpoint in runs/parent/checkpoints"
    assert (
        command("finetune", "runs/parent", "--task", NEW, "--from-scratch", "--dry-run").code == 0
    )


def test_train_does_not_take_what_finetune_writes(command: Any) -> None:
    outcome = command("train", "debug-counting", "--initial.parent", "runs/x")
    assert outcome.sentence == (
        "initial is written by repertory finetune RUN_DIR --task T: use that"
    )


def test_a_damaged_checkpoint_given_by_path_is_refused_before_anything_is_made(
    tmp_path: Path, command: Any
) -> None:
    path = pretrained(tmp_path / "runs", counting_config())
    (found,) = checkpoint.list_checkpoints(path / "checkpoints")
    (found / checkpoint.TREE).write_text("{}")
    outcome = command("finetune", "runs/parent", "--task", NEW, "--checkpoint", str(found))
    assert outcome.code == 2
    assert "is damaged" in outcome.sentence
    assert outcome.files == []


def test_guided_groups_and_point_masses_fine_tune_too(tmp_path: Path) -> None:
    guide = GuideConfig(kind="ctpg", step=3, filter_from=5, block="none")
    algorithm = SacConfig(exploration_steps=5, exploration="policy", guide=guide)
    path = pretrained(tmp_path, pointmass_config(algorithm, saved=False, tasks=("pointmass/mt3",)))
    config, _ = RunDirectory.open(path).read_config()
    names = [task.name for task in LocalRun(config).tasks]
    run = begun(child_config(path, *names[:2]))
    while run.loop.updates < 8:
        run.round()
    assert all(np.isfinite(value) for value in run.learner.metrics().values())


def changing(config: RunConfig, sparsity: float, **settings: Any) -> RunConfig:
    masks = MaskConfig(
        variant="fisher",
        sparsity=sparsity,
        alpha=0.05,
        schedule="constant",
        every=3,
        score_batches=2,
        warm_up=0.0,
        freeze=0.0,
        metrics_every=3,
        **settings,
    )
    return harmony(config).model_copy(update={"masks": masks})


@pytest.mark.parametrize(
    ("config", "sparsity"),
    [(on_policy(), 0.1), (on_policy(), 0.5), (on_policy(), 0.8), (control(), 0.4)],
)
def test_masks_that_change_go_on_changing_from_the_vote_and_keep_their_number_of_weights(
    tmp_path: Path, config: RunConfig, sparsity: float
) -> None:
    path = pretrained(tmp_path, changing(config, sparsity))
    run = begun(child_config(path, "counting/1", NEW))
    before = masks_in(run.learner.state())
    while run.loop.updates < 8:
        run.round()
    for part, after in masks_in(run.learner.state()).items():
        np.testing.assert_array_equal(after.sum(1), before[part].sum(1))
        assert after[0].sum() == after[1].sum()
        assert after.mean() == pytest.approx(1.0 - sparsity, abs=0.01)
        assert (after != before[part]).any(1).all()


def test_a_vote_by_number_that_leaves_too_little_to_exchange_is_refused_at_the_start(
    tmp_path: Path,
) -> None:
    path = pretrained(tmp_path, changing(on_policy(), 0.8, unseen_votes=2.0))
    with pytest.raises(BadInput, match=r"masks.alpha 0.05 of .* is more than these tasks can") as e:
        begun(child_config(path, "counting/1", NEW))
    assert "make it at most 0.0" in str(e.value)
    # Masks that stay as they are need nothing to exchange.
    masks = masks_in(begun(child_config(path, NEW)).learner.state())
    assert 0.0 < masks[""].mean() < 0.02
