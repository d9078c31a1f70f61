"""Whether and from where a run goes on whose learner or replay was lost."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import build
from deploy.cluster.faults import PartLost
from repertory import checkpoint
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.ports import State

if TYPE_CHECKING:
    from repertory.run_directory import RunDirectory

log = logging.getLogger(__name__)


class Restarts:
    """Counts restarts from one checkpoint; a newer one is progress, and the count begins anew."""

    def __init__(self, config: RunConfig, run: RunDirectory) -> None:
        self._config = config
        self._run = run
        self._from: Path | None = None
        self._in_a_row = 0
        self.count = 0

    def after(self, lost: PartLost) -> State | None:
        """Return the newest good checkpoint's state, or None where the run begins again.

        Raises:
            PartLost: the same, once `learner.max_restarts` restarts in a row led nowhere.
        """
        state: State | None = None
        path: Path | None = None
        try:
            state, path, _ = checkpoint.load_latest(self._run.checkpoints)
        except BadInput as none:
            log.warning("%s: the run begins again", none)
        self._in_a_row = self._in_a_row + 1 if path == self._from and self.count else 1
        self._from = path
        if self._in_a_row > self._config.learner.max_restarts:
            raise lost
        self.count += 1
        start = "the beginning" if path is None else path.name
        log.warning("%s; starting again from %s", lost, start)
        if build.is_off_policy(self._config) and not build.saves_contents(self._config):
            log.warning("checkpoints hold no replay (replay.saved): it is filled again first")
        self._run.event("learner_restarted", reason=str(lost), checkpoint=start, count=self.count)
        return state
