"""`algorithm.compat official`: what CTPG's released code does where it departs from the paper.

Axes: K steps of a window, W windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from guide_examples import control_tasks, sac, windows_of
from off_policy import box_tasks, off_policy_config, off_policy_learner, replayed
from torch import Tensor

from learner.guide_windows import GuideWindows, prepare
from learner.losses.windows import window_target
from repertory.config import GradientConfig, GuideConfig, SacConfig, Td3Config

TASKS = control_tasks(3)
DISCOUNT = 0.5


@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_one_word_sets_what_it_stands_for_and_nothing_else(kind: Any) -> None:
    guide = GuideConfig(kind="ctpg", step=7, block="none")
    official = kind(guide=guide, compat="official")
    assert official.time_limit == "terminal"
    assert official.guide == guide.model_copy(update={"policy_filter": "fallback_only"})
    assert kind.model_validate(official.model_dump()) == official
    plain = kind(guide=guide)
    assert (plain.time_limit, plain.guide.policy_filter) == ("bootstrap", "on")


def released(reward: Tensor, not_done: Tensor, bootstrap: float, *, comparable: bool) -> float:
    """Return a window's target as the released code arrives at it, for one window of K steps.

    Hindsight multiplies up the validity of the steps in the array of end flags itself; then the
    guide's recursion reads the flags, and the comparable one reads those of the step before.
    """
    flags = not_done.clone()
    running = flags[0:1]  # A view: what is multiplied into it is written to the flags.
    for step in range(1, len(flags)):
        running *= flags[step]
    target = bootstrap
    for step in range(len(flags) - 1, -1, -1):
        flag = flags[step - 1] if comparable else flags[step]
        target = float(reward[step]) + DISCOUNT * float(flag) * target
    return target


def targets(prepared: GuideWindows, length: Tensor, bootstrap: Tensor) -> Tensor:
    """Return the windows' targets over so many of their steps."""
    return window_target(
        reward=prepared.windows.reward,
        length=length,
        ended=prepared.ended,
        bootstrap=bootstrap,
        discount=DISCOUNT,
    )


@pytest.mark.parametrize("hindsight", [True, False])
def test_targets_of_whole_windows_are_the_released_codes(hindsight: bool) -> None:
    windows = windows_of(TASKS, [6, 6, 6])
    steps = windows.reward.shape[0]
    # Episodes of the published horizons are whole numbers of windows: an end is a last step.
    windows = windows._replace(
        length=torch.full_like(windows.length, steps),
        terminated=torch.arange(18) % 3 == 0,
        truncated=torch.arange(18) % 3 == 1,
    )
    prepared = prepare(windows, 3, "terminal", official=True, hindsight=hindsight)
    assert prepared.ended.sum() == 12
    bootstrap = torch.linspace(-1.0, 1.0, 18)
    guide = targets(prepared, prepared.guide_length, bootstrap)
    comparable = targets(prepared, prepared.comparable_length, bootstrap)
    for window in range(18):
        not_done = torch.ones(steps)
        not_done[-1] = float(not prepared.ended[window])
        reward, value = prepared.windows.reward[:, window], float(bootstrap[window])
        expected = released(reward, not_done, value, comparable=True)
        assert float(comparable[window]) == pytest.approx(expected, abs=1e-6)
        if hindsight:
            expected = released(reward, not_done, value, comparable=False)
            assert float(guide[window]) == pytest.approx(expected, abs=1e-6)
        else:
            assert prepared.guide_length[window] == steps


def test_targets_are_the_papers_unless_told_otherwise() -> None:
    prepared = prepare(windows_of(TASKS, [5, 4, 3]), 3, "bootstrap")
    assert torch.equal(prepared.guide_length, prepared.windows.length)
    assert torch.equal(prepared.comparable_length, prepared.windows.length)
    assert sac().compat == "none"


@pytest.mark.parametrize("compat", ["none", "official"])
def test_pcgrad_sees_losses_before_maskout_in_the_released_code(compat: Any) -> None:
    tasks = box_tasks(2)
    algorithm = SacConfig(maskout=1e-9, maskout_from=0, compat=compat)
    config = off_policy_config(algorithm).model_copy(
        update={"gradients": GradientConfig(method="pcgrad", metrics_every=0)}
    )
    learner = off_policy_learner(config, tasks)
    before = learner.state()["networks"]["critic"]["tensors"]
    learner.update(replayed(tasks), 0.0)
    after = learner.state()["networks"]["critic"]["tensors"]
    same = all(np.array_equal(before[name], after[name]) for name in before)
    assert same == (compat == "none")
