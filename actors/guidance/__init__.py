"""Whose policy acts: choosers, and the policy that follows them."""

from __future__ import annotations

import numpy as np

from actors.control_policy import ControlPolicy
from actors.guidance.bpt import BptChooser
from actors.guidance.ctpg import CtpgChooser
from actors.guidance.guided_policy import Chooser, GuidedPolicy
from actors.guidance.qmp import QmpChooser
from actors.policy import Policy
from repertory.config import GuideConfig, RunConfig, SacConfig, Td3Config

__all__ = ["BptChooser", "Chooser", "CtpgChooser", "GuidedPolicy", "QmpChooser", "guided_policy"]


def guided_policy(
    control: ControlPolicy, config: RunConfig, generator: np.random.Generator
) -> Policy:
    """Return the policy that acts as the run's guide says; `control` itself where there is none."""
    algorithm = config.algorithm
    guide = algorithm.guide if isinstance(algorithm, SacConfig | Td3Config) else GuideConfig()
    chooser: Chooser
    match guide.kind:
        case "none":
            return control
        case "ctpg":
            chooser = CtpgChooser(control, guide, generator)
        case "qmp":
            chooser = QmpChooser(control)
        case "bpt":
            chooser = BptChooser(control.agent.tasks, control.agent.candidates, guide)
    return GuidedPolicy(control, chooser, step=guide.step)
