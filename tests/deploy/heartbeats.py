"""The way in for faults from outside: what a test does at the heartbeats of a run on Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.cluster.supervisor import Supervisor


def at_heartbeats(
    patch: pytest.MonkeyPatch, what: Callable[[Supervisor, Any], None]
) -> list[Supervisor]:
    """Let `what` see the supervisor at every heartbeat, and return every supervisor there was."""
    seen: list[Supervisor] = []
    heartbeat = Supervisor.heartbeat

    def watched(self: Supervisor) -> Any:
        beat = heartbeat(self)
        if self not in seen:
            seen.append(self)
        what(self, beat)
        return beat

    patch.setattr(Supervisor, "heartbeat", watched)
    return seen
