"""Tasks that contradict each other on one network without a task code: joint training fails, masks
do not.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from learner.masks.gradients import TaskGradients, task_gradient
from learner.masks.harmony import mean_between, overlap
from learner.masks.initialisation import initial_masks
from learner.masks.schedule import changes_at
from learner.masks.scores import Variant
from learner.masks.update import Scoring, updated_masks
from repertory.masks import pack
from repertory.networks.masked import MaskedMlp
from repertory.networks.masks import TaskMasks, flatten, layout_of
from repertory.networks.task_mlp import TaskMlp
from repertory.seeding import integer, stream

TASKS, ROWS, STEPS, EVERY = 6, 64, 350, 25
SIGNS = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])


def targets_of(rows: Tensor) -> Tensor:
    """Return two functions of each row, [M, R, 2]; for the last three tasks their opposites."""
    by_task = rows.view(TASKS, -1, 4)
    first = torch.sin(2.0 * by_task[..., 0]) + 0.5 * by_task[..., 1]
    second = torch.cos(2.0 * by_task[..., 2]) * by_task[..., 3]
    return torch.stack([first, second], -1) * SIGNS.view(-1, 1, 1)


def rows_of(generator: torch.Generator, count: int) -> Tensor:
    """Return `count` rows, the same ones for every task."""
    rows = torch.rand(count, 4, generator=generator) * 2.0 - 1.0
    return rows.repeat(TASKS, 1)


class Outcome:
    """What a run came to: error and variance on fresh rows, and how alike masks became."""

    def __init__(self, seed: int, sparsity: float, variant: Variant, alpha: float = 0.005) -> None:
        generator = torch.Generator().manual_seed(integer(seed, "regression"))
        network = TaskMlp(
            4, 2, tasks=TASKS, hidden=64, layers=3, one_hot=False, per_task_heads=False
        )
        network.initialise(generator)
        layout = layout_of(network)
        owned = torch.from_numpy(
            initial_masks(
                layout,
                tasks=TASKS,
                sparsity=sparsity,
                kind="erk",
                generator=stream(seed, "masks"),
            )
        )
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        version, counts = 0, owned.sum(1)
        masks = TaskMasks(pack(owned.numpy(), version), layout)

        def losses(of: MaskedMlp | TaskMlp, rows: Tensor) -> Tensor:
            outputs = of.grouped(rows)[0].view(TASKS, -1, 2)
            return (outputs - targets_of(rows)).square().mean((1, 2))

        for step in range(1, STEPS + 1):
            rows = rows_of(generator, ROWS)
            optimiser.zero_grad()
            losses(MaskedMlp(network, masks), rows).mean().backward()
            optimiser.step()
            changes = changes_at(
                step / STEPS,
                layout.total,
                schedule="hump",
                alpha=alpha,
                warm_up=0.05,
                freeze=0.1,
            )
            if variant == "random" or step % EVERY or not changes:
                continue
            rows = rows_of(generator, 4 * ROWS)
            gradients = [
                TaskGradients(
                    task_gradient(losses(MaskedMlp(network, masks), rows)[task], network, layout),
                    task_gradient(losses(network, rows)[task], network, layout),
                )
                for task in range(TASKS)
            ]
            with torch.no_grad():
                parameters = flatten(layout, dict(network.named_parameters()))
            owned = updated_masks(
                owned,
                gradients.__getitem__,
                parameters,
                changes=changes,
                scoring=Scoring(variant, importance_weight=1.0),
            )
            assert torch.equal(owned.sum(1), counts)
            version += 1
            masks = TaskMasks(pack(owned.numpy(), version), layout)
        rows = rows_of(generator, 500)
        with torch.no_grad():
            self.error = float(losses(MaskedMlp(network, masks), rows).mean())
        self.variance = float(targets_of(rows).square().mean())
        self.overlap = float(mean_between(overlap(owned))) if sparsity else 1.0
        self.updates = version


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_network_without_masks_learns_nothing_of_tasks_that_contradict_each_other(
    seed: int,
) -> None:
    joint = Outcome(seed, sparsity=0.0, variant="random")
    assert joint.error > 0.9 * joint.variance


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("variant", ["random", "fisher"])
def test_with_masks_one_network_learns_them_all(seed: int, variant: Variant) -> None:
    masked = Outcome(seed, sparsity=0.2, variant=variant)
    assert masked.error < 0.05 * masked.variance
    assert (masked.updates > 8) == (variant == "fisher")


def test_fast_updates_by_magnitude_make_masks_far_more_alike_than_random_ones_are() -> None:
    magnitude = Outcome(0, sparsity=0.2, variant="magnitude", alpha=0.04)
    assert magnitude.overlap > 4.0 * 0.2 / 1.8
