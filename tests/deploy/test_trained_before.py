"""What a fine-tuned agent is said to have known: its parent's tasks are not unseen by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finetuned_runs import child_config, pretrained
from off_policy_runs import pointmass_config
from small_runs import COUNTING_TASKS, counting_config, new_run

from deploy import local
from deploy.export.card import model_card
from repertory.config import GradientConfig, GuideConfig, InitialConfig, RunConfig, SacConfig

NEW, UNSEEN = "counting/5", "counting/7"


def card_of(config: RunConfig) -> str:
    return model_card(
        config,
        {},
        name="run",
        tasks=config.tasks,
        env_steps=300,
        frames_per_step=1,
        checkpoint="step_000000300",
        scores={},
        arrays={},
    )


def test_tasks_of_the_parent_are_neither_unseen_nor_zero_shot_wherever_scores_are_shown(
    command: Any, tmp_path: Path
) -> None:
    parent = pretrained(tmp_path, counting_config())
    config = child_config(parent, NEW, total_steps=200)
    run = new_run(tmp_path, config, "child")
    assert local.train(config, run, False) == 0
    outcome = command(
        *("evaluate", "child", "--task", NEW, COUNTING_TASKS[0], UNSEEN, "--episodes", "1")
    )
    assert outcome.code == 0, outcome.err
    lines = {line.split()[0]: line for line in outcome.out.splitlines() if line[:9] == "counting/"}
    assert "unseen" in lines[UNSEEN]
    assert "trained before" in lines[COUNTING_TASKS[0]]
    assert not {"unseen", "trained"} & set(lines[NEW].split())
    written = json.loads(sorted(run.evaluations.iterdir())[-1].read_text())
    assert {s["task"]: (s["trained_on"], s["trained_before"]) for s in written["scores"]} == {
        NEW: (True, False),
        COUNTING_TASKS[0]: (False, True),
        UNSEEN: (False, False),
    }
    assert command("report", "child").code == 0
    page = (run.path / "report.html").read_text()
    _, before, rest = page.partition("<h3>Trained before")
    assert before
    own, _, never = rest.partition("<h3>Zero-shot")
    assert f'data-name="{COUNTING_TASKS[0]}"' in own
    assert f'data-name="{COUNTING_TASKS[0]}"' not in never
    assert f'data-name="{UNSEEN}"' in never
    assert command("export", "child", "agent").code == 0
    card = (tmp_path / "agent" / "README.md").read_text()
    assert f"| `{COUNTING_TASKS[0]}` (trained before) |" in card
    assert f"| `{UNSEEN}` (never trained on) |" in card
    assert "It was fine-tuned: it began with weights of checkpoint `step_000000600` of" in card


def test_a_baseline_has_trained_on_nothing_before() -> None:
    initial = InitialConfig(parent="runs/a", parent_tasks=COUNTING_TASKS, reuse="none")
    assert initial.trained_before == ()
    loaded = InitialConfig(parent="runs/a", parent_tasks=COUNTING_TASKS)
    assert loaded.trained_before == COUNTING_TASKS


@pytest.mark.parametrize(
    ("reuse", "checkpoint", "source", "taken"),
    [
        ("all", "step_000000600", "checkpoint `step_000000600` of the run `a`", "every weight."),
        ("frozen-torso", "/x/step_000000600", "`step_000000600` of the run `a`", "not trained"),
        ("reset-heads", "/runs/a", "the exported agent `a`", "every weight but heads, PopArt"),
    ],
)
def test_a_card_says_what_a_fine_tuned_agent_began_with(
    reuse: str, checkpoint: str, source: str, taken: str
) -> None:
    initial: dict[str, Any] = {"parent": "/runs/a", "checkpoint": checkpoint, "reuse": reuse}
    begun = InitialConfig(**initial, parent_tasks=("counting/3", "counting/4"))
    card = card_of(counting_config(initial=begun, gradients=GradientConfig(metrics_every=0)))
    assert source in card
    assert "trained on `counting/3`, `counting/4`" in card
    assert taken in card
    assert "nothing but these tasks' own play" not in card


def test_a_card_says_that_others_acted_for_a_guided_agent() -> None:
    guide = GuideConfig(kind="ctpg", step=3, experts=("runs/near-goal", "/far"))
    card = card_of(pointmass_config(SacConfig(guide=guide), saved=False))
    assert "the policies of earlier runs act in its place" in card
    assert "`near-goal`, `far`" in card
    assert "nothing but these tasks' own play" not in card


def test_a_card_of_any_other_agent_says_that_it_saw_its_own_play_alone() -> None:
    baseline = InitialConfig(parent="runs/a", parent_tasks=("counting/3",), reuse="none")
    for config in (counting_config(), counting_config(initial=baseline)):
        assert "The agent saw nothing but these tasks' own play." in card_of(config)
