"""Whole SAC updates against a NumPy twin in float64, and both against numbers on record.

A change of numbers is remade, and said in its commit, with
`PYTHONPATH=tests:tests/learner python tests/learner/test_sac_update.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from off_policy import box_tasks, off_policy_config, off_policy_learner, replayed
from slow_sac import SlowSac, arrays_of

from repertory.config import OptimiserConfig, SacConfig

RECORD = Path(__file__).parent.parent / "golden" / "sac_updates.json"
CLIP = 0.7
# Adam's first steps are signs of gradients unless epsilon is of their size.
ADAM = OptimiserConfig(kind="adam", learning_rate=3e-2, anneal="none", epsilon=1e-2, clip_norm=CLIP)
CASES = [
    f"{heads}/{variant}"
    for heads in ("shared", "per_task")
    for variant in ("plain", "rescaled", "masked", "terminal")
]
TASKS, EACH, UPDATES = 3, 4, 4


def run(case: str) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Return what our learner and the twin report of each update, weights' sums included."""
    heads, variant = case.split("/")
    algorithm = SacConfig(
        discount=0.9,
        target_step=0.2,
        reward_scale=0.5,
        temperature_cap=1.0,
        rescale="inverse_temperature" if variant != "plain" else "none",
        maskout=20.0 if variant == "masked" else 0.0,
        maskout_from=0,
        time_limit="terminal" if variant == "terminal" else "bootstrap",
    )
    tasks = box_tasks(TASKS, size=3, actions=2)
    config = off_policy_config(algorithm, heads=heads, hidden=7, optimiser=ADAM)
    learner = off_policy_learner(config, tasks)
    update = learner._update
    twin = SlowSac(
        update.agent.actor,
        update.critic,
        tasks=TASKS,
        rate=ADAM.learning_rate,
        epsilon=ADAM.epsilon,
        clip=CLIP,
        discount=algorithm.discount,
        target_step=algorithm.target_step,
        reward_scale=algorithm.reward_scale,
        target_entropy=-2.0,
        rescale=algorithm.rescale != "none",
        maskout=algorithm.maskout or np.inf,
        terminal=algorithm.time_limit == "terminal",
    )
    ours, theirs = [], []
    for seed in range(UPDATES):
        reward = np.random.default_rng(seed + 50).normal(size=TASKS * EACH).astype(np.float32)
        reward[EACH : 2 * EACH] += 12.0
        batch = replayed(tasks, each=EACH, seed=seed, reward=reward)
        copied = torch.Generator()
        copied.set_state(update.noise.get_state())
        noise = [torch.randn(TASKS * EACH, 2, generator=copied).double().numpy() for _ in range(2)]
        learner.update(batch, 0.0)
        metrics = learner.metrics()
        report = twin.update(batch, *noise)
        numbers = {name: metrics[f"learner/{name}"] for name in report}
        for name, network, slow in (
            ("actor", update.agent.actor, twin.actor),
            ("critic", update.critic, twin.critic),
            ("target", update.target_critic, twin.target),
        ):
            for layer, weight in arrays_of(network).items():
                np.testing.assert_allclose(weight, slow[layer], rtol=2e-4, atol=2e-5)
            numbers[name] = sum(float((w**2).sum()) for w in arrays_of(network).values())
            report[name] = sum(float((w**2).sum()) for w in slow.values())
        numbers["temperature"] = float(update.agent.log_temperature.detach().exp().sum())
        report["temperature"] = float(np.exp(twin.log_temperature["log"]).sum())
        ours.append(numbers)
        theirs.append(report)
    return ours, theirs


@pytest.mark.parametrize("case", CASES)
def test_whole_updates_are_those_of_a_row_by_row_twin_and_on_record(case: str) -> None:
    recorded = json.loads(RECORD.read_text())[case]
    ours, theirs = run(case)
    for own, slow, record in zip(ours, theirs, recorded, strict=True):
        assert own == pytest.approx(slow, rel=1e-3, abs=1e-4)
        assert slow == pytest.approx(record, rel=1e-4, abs=1e-5)


def test_the_cases_on_record_differ_where_their_settings_do() -> None:
    recorded = json.loads(RECORD.read_text())
    for heads in ("shared", "per_task"):
        last = [recorded[f"{heads}/{case}"][-1] for case in ("plain", "rescaled", "masked")]
        losses = [one["critic_loss"] for one in [*last, recorded[f"{heads}/terminal"][-1]]]
        assert len({round(loss, 3) for loss in losses}) == 4
        # What is masked out is the second task, whose rewards are large.
        assert recorded[f"{heads}/masked"][0]["critic_loss"] < losses[1] / 2


def remake() -> None:
    """Write the record anew, from the twin."""
    torch.set_num_threads(1)
    record = {case: run(case)[1] for case in CASES}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    remake()
