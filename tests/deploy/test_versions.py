"""Nodes with other versions: another protocol is refused, other packages are warned of."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from heartbeats import at_heartbeats
from ray import cloudpickle
from small_runs import counting_config, events, new_run

import repertory.types
from deploy import cluster, saved_agent
from deploy.cluster import messages, worker_door, worker_log, workers
from deploy.cluster.supervisor import Supervisor
from deploy.cluster.versions import OURS, PROTOCOL, VersionCheck, versions_here
from deploy.cluster.worker_host import WorkerHost
from repertory.config import ActorConfig, EvaluationConfig
from repertory.errors import ClusterFailure

# What the worker's process needs of this test travels by value: it has no path to it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SENT = (
    repertory.types.Unroll,
    repertory.types.EpisodeRecord,
    repertory.types.EnvironmentFault,
    repertory.types.GuidanceCounts,
    repertory.types.Weights,
    repertory.types.ReplayBatch,
    repertory.types.Windows,
    worker_door.Receipt,
    worker_door.Published,
    messages.Heartbeat,
    messages.Report,
    worker_log.Place,
    saved_agent.SavedCritic,
)
"""What processes of a run send each other."""


def test_the_protocol_rises_with_every_change_of_what_is_sent() -> None:
    lines = [f"{kind.__name__}.{one.name}: {one.type}" for kind in SENT for one in fields(kind)]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    # After a change: raise PROTOCOL by one, and write the new pair here.
    assert (PROTOCOL, digest) == (3, "99e8ad715348")


def test_the_same_versions_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    VersionCheck().hear("worker 0", "10.0.0.5", versions_here())
    assert caplog.text == ""


@pytest.mark.parametrize("theirs", ["9 (repertory 0.9.0)", None])
def test_another_protocol_is_refused_with_both_versions(theirs: str | None) -> None:
    there = versions_here()
    there.pop(OURS)
    if theirs is not None:
        there[OURS] = theirs
    with pytest.raises(ClusterFailure) as refused:
        VersionCheck().hear("worker 3", "10.0.0.5", there)
    sentence = str(refused.value)
    assert sentence.startswith(f"worker 3 on 10.0.0.5 has {OURS} {theirs or 'none yet'}, ")
    assert f"the driver has {versions_here()[OURS]}: install the same" in sentence


def test_other_packages_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    check = VersionCheck()
    there = versions_here() | {"torch": "1.0"}
    del there["ale-py"]
    check.hear("worker 0", "10.0.0.5", there)
    check.hear("worker 1", "10.0.0.6", there)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("worker 0 on 10.0.0.5 has torch 1.0, the driver has ")
    assert second.startswith("worker 0 on 10.0.0.5 has ale-py not installed, the driver has ")


def test_builds_of_one_release_for_different_machines_are_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = versions_here()["torch"].partition("+")[0]
    for build in ("+cpu", "+cu128", ""):
        VersionCheck().hear("worker 0", "10.0.0.5", versions_here() | {"torch": release + build})
    assert caplog.text == ""


class OtherWorkerHost(WorkerHost):
    """The first one has another numpy, and the one that replaces it another protocol."""

    def place(self) -> worker_log.Place:
        found = super().place()
        name, version = (OURS, "0") if self._incarnation else ("numpy", "0.0.1")
        return replace(found, versions=found.versions | {name: version})


def test_a_run_tells_of_a_workers_other_packages_and_refuses_its_other_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "WorkerHost", OtherWorkerHost)
    config = counting_config(
        runtime="cluster",
        total_steps=10**9,
        actors=ActorConfig(count=1, lanes=6, precision="fp32"),
        evaluation=EvaluationConfig(at_end=False),
    )
    run = new_run(tmp_path, config)
    warning = "has numpy 0.0.1, the driver has "
    killed: list[int] = []

    def kill(supervised: Supervisor, beat: Any) -> None:
        if not killed and warning in caplog.text and beat.updates:
            killed.extend(supervised.worker_process_ids())
            os.kill(killed[0], signal.SIGKILL)

    at_heartbeats(monkeypatch, kill)
    with pytest.raises(
        ClusterFailure, match=f"worker 0 on .* has {OURS} 0, the driver has {PROTOCOL} "
    ):
        cluster.train(config, run, False)
    assert killed
    assert caplog.text.count(warning) == 1
    assert len(events(run, "failed")) == 1
