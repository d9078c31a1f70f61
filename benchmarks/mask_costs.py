"""What task masks cost beside their updates of weights: mask updates, and acting.

Part of `repertory bench gradients`. Costs are ratios of one process's interleaved calls.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.sac import interleaved
from repertory.config import MaskConfig, NetworkConfig, RunConfig, SacConfig
from repertory.masks import PackedMasks, pack
from repertory.networks.acting import for_acting
from repertory.networks.actor_critic import build_network
from repertory.networks.control_agent import build_agent
from repertory.networks.masked import MaskedActorCritic, MaskedMlp
from repertory.networks.masks import MaskReader
from repertory.types import ActionSpec, ObservationSpec, TaskSpec

TASKS = 21
LANES_PER_TASK = 3
_ALWAYS = {"variant": "fisher", "schedule": "constant", "warm_up": 0.0, "freeze": 0.0}
_NEVER = 10**9

Update = Callable[[MaskConfig], Callable[[], object]]
"""An update of a learner under masks with these settings."""


def mask_update_lines(update_of: Update, rounds: int, *, cuda: bool) -> list[str]:
    """Return what scoring and mask updates cost, by updates that do neither, one, or both."""
    quiet = {"metrics_every": _NEVER}
    seconds = interleaved(
        {
            "random": update_of(MaskConfig.model_validate(quiet)),
            "scored": update_of(
                MaskConfig.model_validate(
                    {**quiet, **_ALWAYS, "every": _NEVER, "score_batches": _NEVER}
                )
            ),
            "updated": update_of(
                MaskConfig.model_validate({**quiet, **_ALWAYS, "every": 1, "score_batches": 1})
            ),
            "measured": update_of(MaskConfig(metrics_every=1)),
        },
        rounds,
        cuda=cuda,
    )

    def ratio(name: str, than: str) -> float:
        """Return what `name` takes longer than `than`, in updates under random masks."""
        triples = zip(seconds[name], seconds[than], seconds["random"], strict=True)
        return statistics.median((own - base) / plain for own, base, plain in triples)

    scoring, change = ratio("scored", "random"), ratio("updated", "scored")
    measuring = ratio("measured", "random")
    settings = MaskConfig()
    spent = settings.score_batches * scoring + change
    return [
        "in updates under random masks: "
        f"scoring one batch {scoring:.2f}, a mask update {change:.2f}, metrics {measuring:.2f}",
        f"amortised, {settings.score_batches} batches every {settings.every} updates: "
        f"{100 * spent / settings.every:.1f} %; metrics every {settings.metrics_every}: "
        f"{100 * measuring / settings.metrics_every:.2f} %",
    ]


def acting_line(size: str, rounds: int) -> str:
    """Return what one step of 63 lanes of 21 tasks takes under masks, relative to without."""
    with torch.inference_mode():
        seconds = interleaved(_mlp_steps() if size == "mlp" else _atari_steps(), rounds, cuda=False)
    ratios = [own / plain for own, plain in zip(seconds["masked"], seconds["plain"], strict=True)]
    return (
        f"acting, {TASKS} tasks of {LANES_PER_TASK} lanes: {statistics.median(ratios):.2f} times a "
        f"step without masks ({statistics.median(seconds['masked']) * 1e3:.1f} ms)"
    )


def _task_specs(observation: ObservationSpec, action: ActionSpec) -> list[TaskSpec]:
    return [TaskSpec(i, f"task{i}", observation, action, 0.99) for i in range(TASKS)]


def _mlp_steps() -> dict[str, Callable[[], object]]:
    tasks = _task_specs(ObservationSpec((39,), "float32"), ActionSpec("box", 4))
    settings = NetworkConfig(torso="mlp", hidden=400, layers=5, conditioning="one_hot")
    actor = build_agent(tasks, RunConfig(algorithm=SacConfig(), network=settings), 1).actor
    task = torch.arange(TASKS).repeat_interleave(LANES_PER_TASK)
    inputs = torch.randn(len(task), 39, generator=torch.Generator().manual_seed(2))
    masked = MaskedMlp(actor, MaskReader(actor, MaskConfig())(_random_masks(actor)))
    return {
        "plain": lambda: actor.forward(inputs, task),
        "masked": lambda: masked.forward(inputs, task),
    }


def _atari_steps() -> dict[str, Callable[[], object]]:
    tasks = _task_specs(ObservationSpec((84, 84), "uint8", 4), ActionSpec("discrete", 18))
    network = for_acting(build_network(tasks, NetworkConfig(torso="shallow"), 1), "fp32")
    task = torch.arange(TASKS).repeat_interleave(LANES_PER_TASK)
    generator = torch.Generator().manual_seed(2)
    stacked = torch.randint(0, 256, (len(task), 84, 84, 4), generator=generator, dtype=torch.uint8)
    arguments = (
        stacked,
        task,
        torch.zeros(len(task), 0),
        torch.zeros(len(task), dtype=torch.bool),
    )
    masked = MaskedActorCritic(network, MaskReader(network, MaskConfig())(_random_masks(network)))
    return {"plain": lambda: network.act(*arguments), "masked": lambda: masked.act(*arguments)}


def _random_masks(network: torch.nn.Module) -> PackedMasks:
    weights = MaskReader(network, MaskConfig()).layout.total
    drawn = np.random.default_rng(0).random((TASKS, weights)) < 0.8
    return pack(drawn, version=0)
