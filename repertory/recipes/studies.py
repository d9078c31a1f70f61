"""Studies: pre-training on ever more variants at equal data, and what it is worth on unseen ones.

The protocol is that of multi-variant pre-training (Ali Taiga et al. 2023): one agent per number of
variants, the same number of steps for each, then held-out variants zero-shot, fine-tuned, and from
scratch with the budget of fine-tuning. All runs are evaluated at points of their training, the
pre-trained ones on what is held out too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from repertory.config.finetuning import Reuse
from repertory.config.records import EvaluatedPolicy
from repertory.errors import BadInput, did_you_mean


@dataclass(frozen=True, slots=True)
class Study:
    """A named study and one line on what it is for."""

    name: str
    summary: str
    recipe: str
    """Of all its runs."""
    pretraining: tuple[tuple[str, ...], ...]
    """Tasks of each pre-trained agent."""
    held_out: tuple[str, ...]
    pretraining_steps: int
    """Agent steps over all tasks, the same for every agent."""
    finetuning_steps: int
    """Agent steps on one held-out task, fine-tuned or from scratch."""
    reuse: Reuse = "all"
    settings: tuple[str, ...] = ()
    """Flags of every run, over the recipe's settings."""
    policy: EvaluatedPolicy = "greedy"
    """The evaluated policy that curves and table show."""
    evaluations: int = 5
    """Points of each run's training at which it is evaluated, its end not counted."""
    interim_episodes: int = 3
    """Episodes per task at these points; at the end, as many as the recipe plays."""

    def __post_init__(self) -> None:
        counts = [len(tasks) for tasks in self.pretraining]
        if len(set(counts)) < len(counts):
            raise ValueError(
                f"{self.name}: agents pre-trained on {counts} tasks, and runs are named after "
                "these numbers: make them differ"
            )


# Breakout's modes come in families (0 to 12; 16 to 28, where the ball passes through bricks; 32 to
# 44): two variants are one of each of the first two, four are two of each, and of each a third one
# is held out. One core plays and learns some 2,000 agent steps a second on the quickstart's
# network, in training as in evaluation, so that 9 x 0.5 M and 24 x 0.2 M steps take two cores 40
# minutes. Episodes of agents so young take some 250 steps, so that evaluations play 7,000 steps per
# run and task: 4 to 9 per cent of what pre-training plays, 4 of what fine-tuning does. With 33
# starts they take some ten minutes more.
_BREAKOUT_SMALL = Study(
    name="study-breakout-small",
    summary="Breakout: pre-train on 1, 2 and 4 variants, two held out; an hour on two cores",
    recipe="quickstart",
    pretraining=(
        ("atari/breakout/m0d0",),
        ("atari/breakout/m0d0", "atari/breakout/m16d0"),
        (
            "atari/breakout/m0d0",
            "atari/breakout/m4d0",
            "atari/breakout/m16d0",
            "atari/breakout/m20d0",
        ),
    ),
    held_out=("atari/breakout/m8d0", "atari/breakout/m24d0"),
    pretraining_steps=500_000,
    finetuning_steps=200_000,
    settings=("--runtime", "local", "--actors.count", "1", "--checkpoint.every_updates", "500"),
)

_DEBUG = Study(
    name="study-debug",
    summary="the counting environment: the whole protocol in seconds",
    recipe="debug-counting",
    pretraining=(("counting/0",), ("counting/0", "counting/1")),
    held_out=("counting/3",),
    pretraining_steps=600,
    finetuning_steps=300,
    evaluations=2,
    interim_episodes=1,
)

STUDIES: Mapping[str, Study] = MappingProxyType(
    {study.name: study for study in (_BREAKOUT_SMALL, _DEBUG)}
)


def get_study(name: str) -> Study:
    """Return the study called `name`; BadInput names the nearest one."""
    if name not in STUDIES:
        raise BadInput(
            f"unknown study '{name}'.{did_you_mean(name, STUDIES)} Studies: {', '.join(STUDIES)}"
        )
    return STUDIES[name]
