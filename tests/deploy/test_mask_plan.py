"""What a plan says of task masks: few rows, settings that nothing reads, votes by number."""

from __future__ import annotations

from typing import Any

import pytest
from off_policy_runs import pointmass_config
from small_runs import counting_config

from deploy.mask_plan import check as check_masks
from deploy.preflight import check
from repertory.config import (
    GradientConfig,
    InitialConfig,
    LearnerConfig,
    MaskConfig,
    RunConfig,
    SacConfig,
)
from repertory.errors import BadInput
from repertory.recipes import get

HARMONY: dict[str, Any] = {"gradients": GradientConfig(method="harmony")}


def told(config: RunConfig) -> list[str]:
    return [warning for warning in check(config).warnings if "masks" in warning]


def with_masks(config: RunConfig, **settings: Any) -> RunConfig:
    return config.model_copy(update={"masks": config.masks.model_copy(update=settings)})


def test_few_rows_of_a_task_are_warned_of_with_what_masks_then_cost() -> None:
    config = pointmass_config(SacConfig(exploration_steps=20), saved=False, **HARMONY)
    (warning,) = told(config)
    assert warning == (
        "learner.batch_size 24 gives each of 3 tasks 8 rows an update, and with masks every "
        "task's rows read all weights: such updates take several times as long as without masks "
        "(16 rows and 5 x 400 hidden units: 3 times), from learner.batch_size 48 on less"
    )
    enough = config.learner.model_copy(update={"batch_size": 48})
    for other in ({"learner": enough}, {"gradients": GradientConfig()}):
        assert not told(config.model_copy(update=other))
    # 6 unrolls of 5 steps for 3 tasks, then of 8 steps.
    assert told(counting_config(**HARMONY))
    long = LearnerConfig(batch_size=6, unroll_length=8, compile="off", precision="fp32")
    assert not told(counting_config(learner=long, **HARMONY))


NOTHING = {
    "no masks": (
        "mt10-mtsac",
        {"variant": "fisher", "alpha": 0.05},
        "masks.variant fisher and masks.alpha 0.05 do nothing under gradients.method mean, only "
        "under harmony",
    ),
    "masks that stay": (
        "mt10-harmony",
        {"variant": "random", "every": 100},
        "masks.every 100 does nothing under masks.variant random, whose masks stay as drawn",
    ),
    "no importance": (
        "mt10-harmony",
        {"variant": "agreement", "importance_weight": 2.0},
        "masks.importance_weight 2.0 does nothing under masks.variant agreement, which has no "
        "importance",
    ),
    "the released code": (
        "mt10-harmony",
        {"compat": "released", "importance_weight": 2.0},
        "masks.importance_weight 2.0 does nothing under masks.compat released, which weighs the "
        "agreement instead",
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_settings_of_masks_that_nothing_reads_are_warned_of(name: str) -> None:
    recipe, settings, sentence = NOTHING[name]
    config = get(recipe).config
    assert not told(config)
    assert told(with_masks(config, **settings)) == [sentence]
    # A fine-tuned run has settings from its parent, a resumed one from an older version.
    initial = InitialConfig(parent="runs/parent")
    assert not told(with_masks(config, **settings).model_copy(update={"initial": initial}))
    assert not told(with_masks(get("mt10-mtsac").config, alpha=1e-3, every=500))
    assert not told(with_masks(get("mt10-harmony").config, variant="random", alpha=1e-4, every=500))


def test_a_vote_by_number_is_below_the_number_of_tasks_that_vote() -> None:
    config = counting_config(**HARMONY, masks=MaskConfig(unseen_votes=3.0))
    with pytest.raises(BadInput, match=r"masks.unseen_votes 3 would leave .* more votes than 3"):
        check(config)
    # Those that vote for a fine-tuned task are the tasks of the earlier run.
    five = tuple(f"counting/{number}" for number in range(5))
    initial = InitialConfig(
        parent="runs/parent", checkpoint="step_000000600", parent_tasks=five, reuse="all"
    )
    check_masks(config.model_copy(update={"initial": initial}), 1)


def test_a_vote_of_another_density_than_the_tasks_masks_is_warned_of() -> None:
    config = get("mt10-harmony").config
    (warning,) = told(with_masks(config, unseen_votes=2.0))
    assert warning == (
        "masks.unseen_votes 2 of 10 tasks: of random masks a task that was not trained on gets 1 "
        "of the weights, where a trained one has 0.8; masks.unseen_votes 0 gives it as many"
    )
    (warning,) = told(with_masks(config, sparsity=0.5, alpha=1e-4, unseen_votes=8.0))
    assert "gets 0.011 of the weights, where a trained one has 0.5" in warning
    assert not told(with_masks(config, sparsity=0.5, alpha=1e-4, unseen_votes=5.0))


def test_masks_that_a_run_is_too_short_to_change_are_warned_of() -> None:
    config = with_masks(get("mt10-harmony").config, warm_up=0.05, freeze=0.1, every=2500)
    learner, replay = config.learner, config.replay
    assert (learner.batch_size, replay.samples_per_insert) == (1280, 128.0)
    # A tenth of the steps are updates, nine tenths of these before masks are frozen.
    (warning,) = told(config.model_copy(update={"total_steps": 27_700}))
    assert warning == (
        "masks.variant fisher: total_steps 27700 make about 2,770 updates, in which masks never "
        "change: lower masks.every (2500)"
    )
    assert not told(config.model_copy(update={"total_steps": 27_800}))
    short = config.model_copy(update={"total_steps": 27_700})
    assert not told(with_masks(short, variant="random"))
    assert told(with_masks(config, warm_up=0.8, every=1_400_000))
    # On policy an update takes a batch of whole unrolls.
    few = counting_config(**HARMONY, masks=MaskConfig(variant="fisher", every=7))
    rows = few.learner.batch_size * few.learner.unroll_length
    assert any("never change" in w for w in told(few.model_copy(update={"total_steps": 7 * rows})))
    long = few.model_copy(update={"total_steps": 8 * rows})
    assert not any("never change" in w for w in told(long))
