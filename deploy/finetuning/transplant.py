"""Puts the weights of an earlier run into a learner of other tasks, before its first update.

What belongs to no task is copied. What belongs to a task is the earlier run's own where it knew the
task. For a task that is new to it:

    one-hot code            zeros, as in zero-shot evaluation: training starts from that policy
    learned embedding       the mean of the trained tasks', again as in zero-shot evaluation
    head per task           the mean of the trained tasks' heads
    PopArt                  the moments of all trained tasks' targets together, and the head whose
                            un-normalised value is the mean of theirs under these moments
    temperature             the geometric mean of the trained tasks': the critic that is taken over
                            was learned under them
    mask                    the vote of the trained tasks, or one task's

Everything else (optimisers, counters, guides, target networks' lag, random states) begins anew.

Axes: C copies of a network, M tasks here, N tasks of the earlier run, F features, P maskable
weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from repertory.config import PopArtConfig, RunConfig
from repertory.errors import BadInput
from repertory.masks import PackedMasks, masks_from_state, masks_state, pack, voted_mask
from repertory.ports import State
from repertory.types import TaskSpec

Tensors = dict[str, np.ndarray]

SOURCE = "source:"
_HEADS = ("policy.", "value.", "head_weight", "head_bias", "log_temperature")


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """What a learner needs of an earlier run; small enough to travel to it once."""

    tasks: tuple[str, ...]
    """Of the earlier run, in the order of its network."""
    learner: State
    """Networks and masks out of its learner's state."""


def slimmed(tasks: Sequence[str], learner: State) -> InitialWeights:
    """Return what is needed of a learner's state."""
    wanted = ("network", "networks", "masks")
    kept: State = {name: part for name, part in learner.items() if name in wanted}
    return InitialWeights(tuple(tasks), kept)


def transplanted(
    fresh: State, given: InitialWeights, config: RunConfig, tasks: Sequence[TaskSpec]
) -> State:
    """Return the state of a learner as built, with the weights and masks of an earlier run.

    Raises:
        BadInput: a network of the earlier run lacks something that this run's has.
    """
    known = {name: index for index, name in enumerate(given.tasks)}
    sources = [known.get(task.name) for task in tasks]
    state = dict(fresh)
    theirs = _parts(given.learner)
    if "network" in fresh:
        own = fresh["network"]["tensors"]
        state["network"] = {
            **fresh["network"],
            "tensors": _mapped(own, theirs["network"], sources, config),
        }
    else:
        state["networks"] = _off_policy(fresh["networks"], theirs, sources, config)
    if config.gradients.method == "harmony":
        state["masks"] = _masks(fresh["masks"], given, sources, config)
    return state


def _parts(learner: State) -> dict[str, Tensors]:
    """Return the tensors of each network, wherever a learner keeps them, by names of its own."""
    if "network" in learner:
        return {"network": learner["network"]["tensors"]}
    networks = learner["networks"]
    parts: dict[str, Tensors] = {"actor": {}, "critic": {}, "temperature": {}}
    for name, array in networks["agent"]["tensors"].items():
        part, _, rest = name.partition(".")
        if part in ("actor", "critic"):
            parts[part][rest] = array
        elif name == "log_temperature":
            parts["temperature"][name] = array
    if "critic" in networks:
        parts["critic"] = dict(networks["critic"]["tensors"])
    return parts


def _off_policy(
    fresh: State, theirs: Mapping[str, Tensors], sources: Sequence[int | None], config: RunConfig
) -> State:
    """Return the networks' state: actor, critic, temperatures, and targets equal to both."""
    mapped = {
        part: _mapped(own, theirs[part], sources, config)
        for part, own in _parts({"networks": fresh}).items()
    }
    agent = dict(fresh["agent"]["tensors"])
    for name in agent:
        part, _, rest = name.partition(".")
        if part in ("actor", "critic"):
            agent[name] = mapped[part][rest]
        elif name == "log_temperature":
            agent[name] = mapped["temperature"][name]
    networks = {**fresh, "agent": {**fresh["agent"], "tensors": agent}}
    for name, part in (
        ("critic", "critic"),
        ("target_critic", "critic"),
        ("target_actor", "actor"),
    ):
        if name in fresh:
            networks[name] = {**fresh[name], "tensors": mapped[part]}
    return networks


def _mapped(
    own: Tensors, theirs: Tensors, sources: Sequence[int | None], config: RunConfig
) -> Tensors:
    """Return a network's tensors for this run's tasks."""
    reset = config.initial.reuse == "reset-heads"
    result = {}
    popart = (
        _popart(theirs, sources, config.network.popart)
        if config.network.popart.enabled and "value.mu" in theirs
        else {}
    )
    for name, array in own.items():
        if reset and name.startswith(_HEADS):
            result[name] = array
            continue
        if name not in theirs:
            raise BadInput(f"the earlier run's network has no {name}, which this run's has")
        result[name] = popart[name] if name in popart else _of_tasks(name, theirs, sources, config)
    return result


def _of_tasks(
    name: str, theirs: Tensors, sources: Sequence[int | None], config: RunConfig
) -> np.ndarray:
    """Return one tensor with a row, or column, for each of this run's tasks where it has any."""
    array = theirs[name]
    per_task = config.network.heads == "per_task"
    match name:
        case "code":
            return _picked(array, sources, axis=1, unseen=np.zeros_like(array[:, 0]))
        case "head_weight" | "head_bias" if per_task:
            return _picked(array, sources, axis=1, unseen=array.mean(1))
        case "conditioning.embedding":
            return _picked(array, sources, axis=0, unseen=array.mean(0))
        case "conditioning.mix.weight" if config.network.conditioning == "one_hot":
            features = array.shape[0]
            codes = _picked(array[:, features:], sources, axis=1, unseen=np.zeros_like(array[:, 0]))
            return np.ascontiguousarray(np.concatenate([array[:, :features], codes], 1))
        case "log_temperature":
            return _picked(array, sources, axis=0, unseen=array.mean())
        case _:
            return array


def _picked(
    array: np.ndarray,
    sources: Sequence[int | None],
    *,
    axis: int,
    unseen: np.ndarray | np.floating[Any],
) -> np.ndarray:
    """Return the entries of each task along an axis; `unseen` for tasks without a source."""
    entries = [unseen if s is None else array.take(s, axis) for s in sources]
    return np.stack(entries, axis).astype(array.dtype)


def _popart(
    theirs: Tensors, sources: Sequence[int | None], settings: PopArtConfig
) -> dict[str, np.ndarray]:
    """Return statistics and value head per task (Hessel et al. 2019).

    The un-normalised value of task i is sigma_i (w_i h + b_i) + mu_i. A new task's is the mean of
    these over the trained tasks, written with the moments of the equal mixture of their targets, so
    that nothing that is read of the head jumps and the first losses are of unit scale.
    """
    mu, nu, sigma = (theirs[f"value.{name}"] for name in ("mu", "nu", "sigma"))
    weight, bias = (theirs[f"value.{name}"].astype(np.float64) for name in ("weight", "bias"))
    mean, second = mu.mean(), nu.mean()
    deviation = np.clip(np.sqrt(max(second - mean**2, 0.0)), settings.sigma_min, settings.sigma_max)
    unseen = {
        "value.mu": mean,
        "value.nu": second,
        "value.sigma": deviation,
        "value.weight": (sigma[:, None] * weight).mean(0) / deviation,
        "value.bias": ((sigma * bias + mu).mean() - mean) / deviation,
    }
    return {
        name: _picked(theirs[name], sources, axis=0, unseen=value) for name, value in unseen.items()
    }


def _masks(
    fresh: Any, given: InitialWeights, sources: Sequence[int | None], config: RunConfig
) -> State:
    """Return the masks' state, the tasks' masks being those of the earlier run or their vote."""
    state: State
    if "masks" in fresh:
        state = {**fresh, "masks": _masks_of(given.learner["masks"], given, sources, config)}
        return state
    state = {
        part: {
            **own,
            "masks": _masks_of(given.learner["masks"][part], given, sources, config),
        }
        for part, own in fresh.items()
    }
    return state


def _masks_of(
    theirs: State, given: InitialWeights, sources: Sequence[int | None], config: RunConfig
) -> State:
    masks: PackedMasks = masks_from_state(theirs["masks"])
    trained: Bool[np.ndarray, "N P"] = masks.unpack()
    choice = config.initial.masks
    if choice.startswith(SOURCE):
        unseen = trained[given.tasks.index(choice.removeprefix(SOURCE))]
    else:
        unseen = voted_mask(trained, config.masks.unseen_votes or None)
    rows = np.stack([unseen if source is None else trained[source] for source in sources])
    _check_changes(rows, config)
    return masks_state(pack(rows, version=0))


def _check_changes(rows: Bool[np.ndarray, "M P"], config: RunConfig) -> None:
    """Refuse mask updates that some task could not make: a vote by number owns what it owns."""
    settings, weights = config.masks, rows.shape[1]
    if settings.variant == "random" or bool(rows.all()):
        return
    owned = rows.sum(1)
    fewest, most = int(owned.min()), int(owned.max())
    room = min(fewest, weights - most)
    if int(settings.alpha * weights + 1e-9) > room:
        raise BadInput(
            f"masks.alpha {settings.alpha:g} of {weights:,} weights is more than these tasks can "
            f"exchange, which own {fewest:,} to {most:,}: make it at most {room / weights:.3g}, "
            "or have as many voted for as a task owns (masks.unseen_votes 0)"
        )
