"""What a run's plan says of task masks: settings that cannot work, and what is probably not meant.

Axes: M tasks.
"""

from __future__ import annotations

import math

from deploy.build import is_off_policy
from repertory.config import MaskConfig, RunConfig
from repertory.errors import BadInput
from repertory.recipes import RECIPES

FEW_ROWS = 16
"""Rows of a task at which masked updates of 5 x 400 hidden units take 3 times a joint one's time;
at 64 and more a fifth to two fifths longer.
"""
_FORMER: dict[str, tuple[object, ...]] = {"alpha": (1e-3, 1e-4), "every": (500,)}
"""What runs and recipes had by default once: a resumed run is not told of what nobody chose."""
_OF_UPDATES = (
    "importance_weight",
    "alpha",
    "schedule",
    "every",
    "warm_up",
    "freeze",
    "score_batches",
)


def check(config: RunConfig, tasks: int) -> None:
    """Refuse a vote that no weight can win, among a fine-tuned run's parent's tasks if it has one.

    Raises:
        BadInput: `masks.unseen_votes` is not below the number of tasks.
    """
    if config.gradients.method != "harmony":
        return
    voters = max(tasks, len(config.initial.parent_tasks))
    if config.masks.unseen_votes >= voters:
        raise BadInput(
            f"masks.unseen_votes {config.masks.unseen_votes:g} would leave a task that was not "
            f"trained on without weights, for none has more votes than {voters} tasks: make it "
            "smaller, or 0 for as many weights as a task owns"
        )


def warnings(config: RunConfig, tasks: int) -> list[str]:
    """Return a sentence for each thing that is allowed and probably not meant."""
    return [
        *_few_rows(config, tasks),
        *_never_updated(config),
        *_without_effect(config),
        *_uneven_vote(config, tasks),
    ]


def _few_rows(config: RunConfig, tasks: int) -> list[str]:
    """Warn where a task's rows are too few to pay for reading the weights once per task."""
    if config.gradients.method != "harmony":
        return []
    steps = 1 if is_off_policy(config) else config.learner.unroll_length
    rows = config.learner.batch_size * steps / tasks
    if rows >= FEW_ROWS:
        return []
    wanted = -(-FEW_ROWS * tasks // steps)
    return [
        f"learner.batch_size {config.learner.batch_size} gives each of {tasks} tasks {rows:.3g} "
        "rows an update, and with masks every task's rows read all weights: such updates take "
        f"several times as long as without masks ({FEW_ROWS} rows and 5 x 400 hidden units: 3 "
        f"times), from learner.batch_size {wanted} on less"
    ]


def _never_updated(config: RunConfig) -> list[str]:
    """Warn of a run that is over before its masks would change."""
    masks = config.masks
    rests = masks.variant == "random" or not masks.alpha or not masks.sparsity
    if config.gradients.method != "harmony" or rests:
        return []
    if is_off_policy(config):
        per_step = config.replay.samples_per_insert / config.learner.batch_size
    else:
        per_step = 1.0 / (config.learner.batch_size * config.learner.unroll_length)
    updates = config.total_steps * per_step
    last = (1.0 - masks.freeze) * updates // masks.every * masks.every
    if last and last >= masks.warm_up * updates:
        return []
    return [
        f"masks.variant {masks.variant}: total_steps {config.total_steps} make about "
        f"{updates:,.0f} updates, in which masks never change: lower masks.every ({masks.every})"
    ]


def _without_effect(config: RunConfig) -> list[str]:
    """Warn of settings that somebody chose and nothing reads."""
    masks = config.masks
    # Fine-tuned runs have settings from their parents, methods by the number of their tasks.
    if config.initial.parent:
        return []
    if config.gradients.method != "harmony":
        chosen = _chosen(config, tuple(MaskConfig.model_fields))
        return _nothing(
            chosen, f"under gradients.method {config.gradients.method}, only under harmony"
        )
    if masks.variant == "random":
        return _nothing(
            _chosen(config, _OF_UPDATES), "under masks.variant random, whose masks stay as drawn"
        )
    chosen = _chosen(config, ("importance_weight",))
    if masks.variant == "agreement":
        return _nothing(chosen, "under masks.variant agreement, which has no importance")
    if masks.compat == "released":
        return _nothing(chosen, "under masks.compat released, which weighs the agreement instead")
    return []


def _nothing(names: list[str], why: str) -> list[str]:
    if not names:
        return []
    verb = "does" if len(names) == 1 else "do"
    return [f"{' and '.join(names)} {verb} nothing {why}"]


def _chosen(config: RunConfig, names: tuple[str, ...]) -> list[str]:
    """Return which of the settings are neither the recipe's nor defaults, with their values."""
    recipe = RECIPES.get(config.recipe)
    usual = MaskConfig() if recipe is None else recipe.config.masks
    found = []
    for name in names:
        value = getattr(config.masks, name)
        known = (getattr(usual, name), getattr(MaskConfig(), name), *_FORMER.get(name, ()))
        if value not in known:
            found.append(f"masks.{name} {value}")
    return found


def _uneven_vote(config: RunConfig, tasks: int) -> list[str]:
    """Warn where a vote by number would leave unseen tasks a network of another density."""
    masks = config.masks
    votes, owned = math.floor(masks.unseen_votes), 1.0 - masks.sparsity
    alone = config.gradients.method != "harmony" or config.initial.parent
    if alone or not masks.unseen_votes or not masks.sparsity:
        return []
    voted = sum(
        math.comb(tasks, n) * owned**n * masks.sparsity ** (tasks - n)
        for n in range(votes + 1, tasks + 1)
    )
    if 0.5 * owned <= voted <= 1.0 - 0.5 * masks.sparsity:
        return []
    return [
        f"masks.unseen_votes {masks.unseen_votes:g} of {tasks} tasks: of random masks a task that "
        f"was not trained on gets {voted:.2g} of the weights, where a trained one has {owned:.2g}; "
        "masks.unseen_votes 0 gives it as many"
    ]
