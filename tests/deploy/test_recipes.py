"""Every recipe is complete, can start where it is meant to, and keeps its published numbers."""

from __future__ import annotations

import psutil
import pytest

from deploy.preflight import check
from repertory.config import AtariConfig, PopArtConfig, PpoConfig
from repertory.errors import BadInput
from repertory.recipes import RECIPES, get

PRETRAIN = {
    "atari-breakout-pretrain": (21, 3, 1_050_000_000),
    "atari-space-invaders-pretrain": (29, 3, 3_750_000_000),
    "atari-asteroids-pretrain": (63, 3, 3_750_000_000),
    "atari-bank-heist-pretrain": (29, 3, 1_450_000_000),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_passes_preflight_with_equal_lanes_and_no_warning_but_cores(name):
    config = get(name).config
    assert config.recipe == name
    plan = check(config)
    assert len(set(plan.lanes_per_task)) == 1
    assert [warning for warning in plan.warnings if "share the" not in warning] == []
    assert set(plan.held_out).isdisjoint(task.name for task in plan.tasks)


@pytest.mark.parametrize("name", PRETRAIN)
def test_pre_training_has_the_published_variants_and_budget(name):
    tasks, held_out, steps = PRETRAIN[name]
    config = get(name).config
    plan = check(config)
    assert (len(plan.tasks), len(plan.held_out)) == (tasks, held_out)
    assert config.total_steps == steps
    assert config.network.torso == "impala"
    assert config.network.popart.enabled
    assert isinstance(config.environment, AtariConfig)
    assert config.environment.repeat_action_probability == 0.25
    assert plan.tasks[0].action.size == 18


def test_ppo_is_compared_with_quickstart_on_the_same_tasks_episodes_and_policies():
    ppo, quickstart = get("ppo").config, get("quickstart").config
    for part in ("tasks", "environment", "network", "total_steps", "evaluation"):
        assert getattr(ppo, part) == getattr(quickstart, part)
    assert "random" in ppo.evaluation.policies


SHORT = ("quickstart", "breakout-check")


@pytest.mark.parametrize("name", ["single-task", *PRETRAIN, "atari-mixed"])
def test_impala_recipes_have_the_numbers_of_its_atari_table(name):
    config = get(name).config
    optimiser, algorithm = config.optimiser, config.algorithm
    assert algorithm.kind == "vtrace"
    assert (algorithm.discount, algorithm.value_cost, algorithm.entropy_cost) == (0.99, 0.5, 0.01)
    assert algorithm.loss_reduction == "sum"
    assert (config.learner.batch_size, config.learner.unroll_length) == (32, 20)
    assert (optimiser.kind, optimiser.learning_rate) == ("rmsprop_tensorflow", 6e-4)
    assert (optimiser.anneal, optimiser.epsilon, optimiser.decay) == ("linear", 0.01, 0.99)
    assert (optimiser.momentum, optimiser.clip_norm) == (0.0, 40.0)


@pytest.mark.parametrize("name", SHORT)
def test_short_recipes_have_the_same_losses_and_more_updates(name):
    config = get(name).config
    assert config.algorithm == get("atari-mixed").config.algorithm
    assert (config.optimiser.kind, config.optimiser.learning_rate) == ("adam", 1e-3)
    assert config.learner.batch_size * config.learner.unroll_length == 160


def test_the_check_recipe_plays_as_the_published_curves_were_played():
    config = get("breakout-check").config
    environment = config.environment
    assert isinstance(environment, AtariConfig)
    assert environment.repeat_action_probability == 0.0
    assert environment.fire_reset
    assert environment.life_loss_ends
    assert environment.clip_rewards
    assert environment.noop_max == 30
    plan = check(config)
    assert [task.name for task in plan.tasks] == ["atari/breakout/m0d0"]
    assert plan.tasks[0].action.size == 4
    assert config.total_steps == 2_000_000


def test_the_single_task_baseline_needs_no_normalisation_between_tasks():
    assert get("single-task").config.network.popart == PopArtConfig()


def test_ppo_updates_on_as_many_steps_as_published():
    config = get("ppo").config
    assert isinstance(config.algorithm, PpoConfig)
    assert config.learner.batch_size * config.learner.unroll_length == 8 * 128
    assert config.actors.count * config.actors.lanes == config.learner.batch_size


CONTROL_GROUPS = {
    "mt10": (10, 5, 15_000_000, 1_000_000),
    "mt50": (50, 5, 75_000_000, 10_000_000),
    "halfcheetah-mt5": (5, 2, 4_000_000, 500_000),
    "halfcheetah-mt8": (8, 2, 6_400_000, 1_000_000),
}


@pytest.mark.parametrize("group", CONTROL_GROUPS)
@pytest.mark.parametrize("ending", ["-mtsac", "-mhsac", "-ctpg", "-mhsac-ctpg"])
def test_control_recipes_have_the_numbers_of_the_guidance_paper(group, ending):
    tasks, layers, steps, capacity = CONTROL_GROUPS[group]
    config = get(group + ending).config
    algorithm, optimiser, network = config.algorithm, config.optimiser, config.network
    assert algorithm.kind == "sac"
    assert len(check(config).tasks) == tasks
    assert (network.layers, network.hidden) == (layers, 400)
    per_task = "mhsac" in ending
    assert network.heads == ("per_task" if per_task else "shared")
    assert network.conditioning == ("none" if per_task else "one_hot")
    assert (config.total_steps, config.replay.capacity) == (steps, capacity)
    assert config.learner.batch_size == 128 * tasks
    assert config.replay.samples_per_insert == 128
    assert (optimiser.kind, optimiser.learning_rate, optimiser.clip_norm) == ("adam", 1e-4, 0.1)
    assert (algorithm.discount, algorithm.target_step) == (0.99, 0.01)
    assert (algorithm.reward_scale, algorithm.maskout, algorithm.maskout_from) == (
        0.1,
        3e3,
        100_000,
    )
    assert (algorithm.temperature, algorithm.temperature_cap) == (1.0, 1.0)
    assert algorithm.exploration_steps == 2_000
    assert config.environment.horizon == (200 if group.startswith("mt") else 1000)
    guide = algorithm.guide
    assert guide.kind == ("ctpg" if ending.endswith("ctpg") else "none")
    if guide.kind == "ctpg":
        assert (guide.step, guide.filter_samples, guide.filter_from) == (10, 5, 10_000)
        assert (guide.policy_filter, guide.block, guide.hindsight) == ("on", "temperature", True)


@pytest.mark.parametrize("name", ["halfcheetah-mt5-small", "metaworld-small", "pointmass"])
def test_a_small_pair_differs_in_guidance_alone(name):
    plain, guided = get(name).config, get(f"{name}-ctpg").config
    assert guided.algorithm.guide.kind == "ctpg"
    same = guided.algorithm.model_copy(update={"guide": plain.algorithm.guide})
    assert guided.model_copy(update={"recipe": name, "algorithm": same}) == plain


def test_small_recipes_fit_a_small_machine():
    for name in ("quickstart", "breakout-check", "ppo", "debug-counting"):
        assert check(get(name).config).memory < min(4 * 2**30, psutil.virtual_memory().total)


def test_an_unknown_recipe_names_the_nearest_one():
    with pytest.raises(BadInput, match=r"unknown recipe 'breakout'. Did you mean 'breakout-check'"):
        get("breakout")
