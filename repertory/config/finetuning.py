"""Where a run's first weights come from: drawn from its seed, or taken over from an earlier run."""

from __future__ import annotations

from typing import Literal

from repertory.config.base import Settings

Reuse = Literal["all", "frozen-torso", "reset-heads"]


class InitialConfig(Settings):
    """Which earlier run this one fine-tunes (`repertory finetune`); written by that command."""

    parent: str = ""
    """Directory of the earlier run; empty for a run that begins by itself."""
    checkpoint: str = ""
    """Its checkpoint that the weights are taken from, by name, or by path if it lies elsewhere."""
    parent_tasks: tuple[str, ...] = ()
    """What the earlier run was trained on, in the order of its network."""
    reuse: Literal[Reuse, "none"] = "all"
    """all: every weight; frozen-torso: the same, and the torso (SAC and TD3: the hidden layers) is
    never trained again; reset-heads: heads, PopArt statistics and temperatures begin anew; none:
    nothing is taken over, the baseline from scratch.
    """
    masks: str = "voted"
    """gradients.method harmony: what masks tasks get that the earlier run was not trained on.
    voted: the weights that its tasks vote for; source:<task>: that task's.
    """

    @property
    def loads(self) -> bool:
        """Whether weights are taken over."""
        return bool(self.parent) and self.reuse != "none"

    @property
    def trained_before(self) -> tuple[str, ...]:
        """Tasks that the weights which are taken over were trained on; none without such."""
        return self.parent_tasks if self.loads else ()

    @property
    def freezes(self) -> bool:
        """Whether the torso is never trained."""
        return self.loads and self.reuse == "frozen-torso"
